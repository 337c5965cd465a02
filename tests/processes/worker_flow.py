"""A flow as a program has it in a module of its own: workers import it to find its functions."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import date

from oautom import Context, Flow, OAutom, Param

app = OAutom(executor="processes", max_workers=2)
etl = Flow("etl", app, params={"day": date, "limit": Param(int, 10)}, max_active_vects=9)


@dataclass
class Report:
    day: date
    rows: list[int]
    pid: int


@etl.step
def extract(day: date, limit: int) -> Report:
    assert type(day) is date
    return Report(day, [40, 2, 7][:limit], os.getpid())


@etl.step
def total(rows: list[int], context: Context) -> int:
    assert type(context.inputs["extract"]) is Report
    assert context.params["day"] == context.inputs["extract"].day
    return sum(rows)


def twice(number: int) -> int:
    return 2 * number


doubled = etl.step(name="doubled")(twice)  # the name of the function stays that of the function

report = extract(etl.param("day"), etl.param("limit"))
sum_ = total(report.output["rows"])
last = doubled(sum_)
