"""A Snakemake workflow with threads: map the reads of each unit, then call the variants of each.

Run it:  python examples/from_elsewhere/snakemake_variants.py

The definition: workflow/rules/mapping.smk and calling.smk in
snakemake-workflows/dna-seq-gatk-variant-calling on GitHub (commits 02c1b43, 46ac62a). Written anew;
the tools (trimmomatic, bwa, picard, gatk) are stubs that count the cores in use.

| there | here |
|---|---|
| `snakemake --cores 8` | `Pool("cores", slots=8)` |
| `threads: 8` of a rule | `pool_slots=8` |
| wildcards, `{sample}-{unit}` | a flow for each item of a list |
| `temp(...)` | a teardown that removes the file |
| `expand("...{contig}...", contig=...)` | the output of a map: a list |
| `ancient`, `protected`, `--rerun-triggers` | none: a run does each of its steps once |
"""

import threading
import time
from functools import partial

from oautom import Flow, MapExecution, OAutom, Pool, PythonExecution

UNITS = [{"sample": sample, "unit": unit} for sample in "ABC" for unit in "12"]
CONTIGS = ["chr1", "chr2", "chr3", "chrX"]


class Cores:
    """Counts how many cores are in use."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self._lock = threading.Lock()

    def use(self, cores: int) -> None:
        """Use some for a while."""
        with self._lock:
            self.now += cores
            self.most = max(self.most, self.now)
        time.sleep(0.005)
        with self._lock:
            self.now -= cores


used = Cores()


def tool(sample: str, unit: str, *, cores: int = 1) -> str:
    """Stand for a tool; return the name of what it makes."""
    used.use(cores)
    return f"{sample}-{unit}.bam"


def call(contig: str, bams: list[dict[str, str]]) -> str:
    """Stand for the caller of variants."""
    used.use(1)
    return f"{contig} of {len({each['apply_recalibration'] for each in bams})} files"


with OAutom(max_workers=16) as app:
    cores = Pool("cores", slots=8)
    mapping = Flow("mapping", app, params={"sample": str, "unit": str}, max_active_vects=None)
    of = (mapping.param("sample"), mapping.param("unit"))

    trim = PythonExecution("trim_reads", mapping, tool, of, pool=cores)
    bwa = PythonExecution(
        "map_reads", mapping, partial(tool, cores=8), of, pool=cores, pool_slots=8
    )
    dedup = PythonExecution("mark_duplicates", mapping, tool, of, pool=cores)
    table = PythonExecution("recalibrate", mapping, tool, of, pool=cores)
    apply = PythonExecution("apply_recalibration", mapping, tool, of, pool=cores)
    tidy = PythonExecution("remove_trimmed", mapping, lambda: None, teardown_of=[trim])
    trim >> bwa >> [dedup, tidy]
    dedup >> table >> apply

    flow = Flow("variants", app, params={"units": list[dict[str, str]], "contigs": list[str]})
    mapped = MapExecution("mapping", flow, mapping, flow.param("units"), label="{sample}-{unit}")
    called = MapExecution(
        "call_variants", flow, call, flow.param("contigs"), {"bams": mapped.output}, pool=cores
    )
    merged = PythonExecution("merge_variants", flow, " + ".join, (called.output,), pool=cores)

    vect = app.run(flow, {"units": UNITS, "contigs": CONTIGS})
    print(vect.state, "-", vect.result("merge_variants"))
    print("at most", used.most, "cores at once")
    print(len(app.vects("mapping")), "units, each with its own run:", app.vects("mapping")[0].id)
