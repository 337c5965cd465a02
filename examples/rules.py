"""How a flow goes on when one of its steps fails, skips itself, or is allowed to fail.

Run it:  python examples/rules.py

By default, a step waits for the success of all its upstreams. A trigger rule changes that; there
are twelve, those of Airflow.
"""

from oautom import BashExecution, Flow, OAutom, PythonExecution, Skip, TriggerRule


def look_for_news() -> str:
    """Find nothing; what waits for it is skipped, too."""
    raise Skip("nothing new")


with OAutom() as app:
    flow = Flow("nightly", app)

    news = PythonExecution("news", flow, look_for_news)
    mail = BashExecution("mail", flow, "echo sent")
    weather = BashExecution("weather", flow, "exit 7", allow_failure=True)  # nice to have
    prices = BashExecution("prices", flow, "echo 42")

    page = BashExecution("page", flow, "echo made", trigger_rule=TriggerRule.ONE_SUCCESS)
    alarm = BashExecution("alarm", flow, "echo rung", trigger_rule=TriggerRule.ONE_FAILED)
    clean_up = BashExecution("clean up", flow, "echo done", trigger_rule=TriggerRule.ALL_DONE)

    news >> mail
    [news, weather, prices] >> page
    prices >> alarm
    [mail, page, alarm] >> clean_up

    vect = app.run(flow)

for step in vect.steps.values():
    print(f"{step.name:<8} {step.state:<8} {step.output or step.error}")
print("the flow:", vect.state)
