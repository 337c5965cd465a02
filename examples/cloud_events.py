"""Events as CloudEvents, a line of JSON each, and another program that reads them.

Run it:  python examples/cloud_events.py

The reader knows nothing of oautom: it reads line by line, and recognises an event that comes twice
(a subscription delivers at least once) by its `source` and `id`.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

from oautom import BashExecution, Flow, OAutom
from oautom.events.subscribers import CloudEventsWriter


def read(lines: Iterable[str]) -> None:
    """Show each event once; a line that a crash has torn is no JSON, and its event comes again."""
    seen = set()
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            continue
        key = event["source"], event["id"]
        if key not in seen:
            seen.add(key)
            error = event["data"]["data"].get("error", "")
            print(event["type"], event["subject"], error)


with TemporaryDirectory() as folder:
    file = Path(folder, "events.jsonl")
    # The app is closed first, and tells the subscription all; then the writer is.
    with CloudEventsWriter(file, source="https://example.org/etl") as writer, OAutom() as app:
        flow = Flow("nightly load", app)
        fetch = BashExecution("fetch", flow, "echo 'no route to host' >&2; exit 7")
        load = BashExecution("load", flow, "echo loaded")
        fetch >> load
        app.subscribe(writer, name="cloudevents")
        app.run(flow, vect_id="2026-11-24")
    lines = file.read_text(encoding="utf-8").splitlines()

print(lines[2], end="\n\n")
read([*lines, *lines])  # all of them come twice
