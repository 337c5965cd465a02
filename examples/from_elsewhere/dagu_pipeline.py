"""A dagu file with a schedule, preconditions and lifecycle handlers.

Run it:  python examples/from_elsewhere/dagu_pipeline.py

The definition: "Advanced DAG with All Features" in spec/DAG_YAML_OVERVIEW.md of dagu-org/dagu on
GitHub (commit a95646e). Written anew; the commands are stubs.

| there | here |
|---|---|
| `schedule: "0 2 * * *"`, precondition "weekdays only" | `cron="0 2 * * 1-5"` |
| a parameter that is a command, `date -d '1 day ago'` | `PLANNED - timedelta(days=1)` |
| `timeout`, `histRetentionDays` | `run_timeout`, `app.prune` |
| `preconditions` on an output | the step skips itself: exit code 99 |
| `retryPolicy` | `retry`, after any exit code but that of a skip |
| `continueOn: failure` with `markSuccess` | `|| echo WARNING`: the command does not fail |
| `run: workflows/reporting` | `FlowExecution` |
| `handlerOn: success, failure, exit` | two trigger rules, and a teardown |
"""

import tempfile
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from oautom import (
    PLANNED,
    BashExecution,
    Flow,
    FlowExecution,
    OAutom,
    PythonExecution,
    RetryPolicy,
    TriggerRule,
)
from oautom.testing import SimulatedClock

# Stands for the tools of the pipeline. On the second day the warehouse is down.
STUBS = """
say() { echo "$DAY $*" >>"$NOTES"; }
validate() { echo OK; }
extract() { echo 1200; }
transform() { echo "$1: $2 rows"; }
quality() { echo "NOTICE: 2 rows without a price"; exit 1; }
load() { [ "$DAY" != 2026-11-24 ] || { echo "the warehouse is down" >&2; return 5; }; }
"""


def declare(app: OAutom, notes: Path) -> Flow:
    """Declare the pipeline, and the flow that it runs."""
    reporting = Flow("reporting", app, params={"day": date, "quality": str})
    PythonExecution(
        "write",
        reporting,
        lambda day, quality: f"{day}: {quality.partition(':')[0]}",
        (reporting.param("day"), reporting.param("quality")),
    )

    flow = Flow("data-pipeline", app, params={"day": date, "batch": int}, run_timeout=7200)
    env = {"DAY": flow.param("day"), "BATCH": flow.param("batch"), "NOTES": str(notes)}

    def step(name: str, command: str, **options: Any) -> BashExecution:
        return BashExecution(name, flow, STUBS + command, **{"env": env, **options})

    validate = step("validate", "validate")
    extract = step(
        "extract",
        '[ "$STATUS" = OK ] || { echo "the environment is not OK"; exit 99; }; extract',
        env=env | {"STATUS": validate},
        retry=RetryPolicy(max_attempts=4, delay=300, backoff=1),
    )
    rows = {"ROWS": extract}
    kinds = ("customers", "orders", "products")
    transforms = [
        step(f"transform {kind}", f'transform {kind} "$ROWS"', env=env | rows) for kind in kinds
    ]
    check = step("quality check", "(quality) || echo WARNING: see above")
    load = step(
        "load",
        'case "$QUALITY" in *PASSED*|*WARNING*) load ;; *) exit 99 ;; esac',
        env=env | {"QUALITY": check},
    )
    report = FlowExecution("reports", flow, reporting, {"day": flow.param("day"), "quality": check})
    tidy = step("tidy", "say temporary files of the day removed", allow_failure=True)
    transforms >> check
    load >> report >> tidy

    # The handlers. Those of success and failure wait for the last step, which is blocked by any
    # failure before it; the teardown runs in any case, after a cancel too.
    succeeded = step("on success", "say completed")
    failed = step("on failure", "say failed", trigger_rule=TriggerRule.ONE_FAILED)
    ended = step("on exit", "say cleaned up", teardown_of=[validate])
    tidy >> [succeeded, failed] >> ended
    return flow


clock = SimulatedClock(datetime(2026, 11, 21, 12, tzinfo=UTC))  # a Saturday
with (
    tempfile.TemporaryDirectory() as folder,
    OAutom(executor="inline", clock=clock) as app,
):
    notes = Path(folder) / "notes"
    pipeline = declare(app, notes)
    day = PLANNED - timedelta(days=1)
    app.plan(pipeline, cron="0 2 * * 1-5", params={"day": day, "batch": 1000})
    clock.call_later(4 * 24 * 3600, app.stop)
    app.run()

    for vect in app.vects(pipeline):
        failed = [name for name, each in vect.steps.items() if each.state == "failed"]
        print(vect.params["day"], vect.state, *failed)
    print(app.vects("reporting")[0].result("write"))
    print(notes.read_text(), end="")
    app.prune(older_than=timedelta(days=30))
