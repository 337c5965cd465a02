"""The example that oautom began with: three Bash commands, one after the other.

Run it:  python examples/original.py

In background mode the engine has a thread of its own: `start` returns when the log has the Vect,
and `wait` waits for its end.
"""

from tempfile import TemporaryDirectory

from oautom import BashExecution, Flow, OAutom, OAutomMode

with TemporaryDirectory() as folder:
    oautom = OAutom(mode=OAutomMode.background)

    flow = Flow("flow 1", app=oautom)
    step1 = BashExecution("execution 1", flow=flow, command="touch file1", cwd=folder)
    step2 = BashExecution("sleep", flow=flow, command="sleep 1", cwd=folder)
    step3 = BashExecution("execution 2", flow=flow, command="touch file2; ls", cwd=folder)
    step2.depends(step1)
    step3.depends(step2)

    vect = oautom.start("flow 1")
    print(vect.wait())
    print(vect.steps["execution 2"].log_text, end="")
