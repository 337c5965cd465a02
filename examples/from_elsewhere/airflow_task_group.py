"""A DAG of Airflow with a mapped task group: two tasks for each of six numbers.

Run it:  python examples/from_elsewhere/airflow_task_group.py

The definition: code-samples/dags/task-groups/task_group_mapping_example.py in astronomer/docs on
GitHub (commit 88eee08). Written anew.

| there | here |
|---|---|
| `@task_group` | a `Flow` with a parameter |
| `tg1.expand(my_num=[...])` | `MapExecution(name, flow, group, over=...)` |
| an instance of the group | a child Vect, with an id and a state of its own |
| `xcom_pull(task_ids=["group1.add_42"], map_indexes=[2, 3])` | parts of the output of the map |

In Airflow all instances start at once, breadth first. Here who has begun goes on first.
"""

from oautom import Flow, MapExecution, OAutom

with OAutom(max_workers=2) as app:
    group = Flow("group1", app, params={"my_num": int}, max_active_vects=None)
    num = group.param("my_num")

    @group.step
    def print_num(num: int) -> int:
        print("num", num)
        return num

    @group.step
    def add_42(num: int) -> int:
        return num + 42

    print_num(num) >> add_42(num)

    flow = Flow("task_group_mapping_example", app, params={"numbers": list[int]})
    groups = MapExecution("group1", flow, group, over=flow.param("numbers"), label="number {}")

    @flow.step
    def pull(third: int, fourth: int) -> str:
        return f"pulled {third} and {fourth}"

    pull(groups.output[2]["add_42"], groups.output[3]["add_42"])

    vect = app.run(flow, {"numbers": [19, 23, 42, 8, 7, 108]})
    print(vect.state, "-", vect.result("pull"))
    print([each["add_42"] for each in vect.result("group1")])
