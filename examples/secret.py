"""A password that a step gets, and that no log, no error and no output ever has.

Run it:  python examples/secret.py

The steps below leak their secret in three ways; oautom keeps it in none of them. Usually a secret
is a variable of the environment; here, a dictionary stands for a vault.
"""

from oautom import BashExecution, Flow, OAutom, PythonExecution

VAULT = {"API_KEY": "correct horse battery staple"}


def main() -> None:
    """Run the flow, and show what it has kept."""
    with OAutom(secrets=VAULT.__getitem__) as app:
        flow = Flow("report", app)
        key = flow.secret("API_KEY")

        @flow.step
        def fetch(key: str) -> int:
            print("asking with", key)
            return len(key)

        @flow.step
        def fail(key: str) -> None:
            raise ConnectionError(f"refused: {key}")

        fetch(key)
        fail(key)
        BashExecution("upload", flow, 'set -x; echo "$KEY"', env={"KEY": key})
        PythonExecution("header", flow, lambda key: {"Authorization": key}, [key])

        for step in app.run(flow).steps.values():
            print(f"{step.name}: {step.state}, {step.error or step.output}")


if __name__ == "__main__":
    main()
