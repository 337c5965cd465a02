"""Internal. The steps: the base class of all steps, and the kinds that come with oautom."""

from oautom.steps.approval import ApprovalExecution
from oautom.steps.bash import BashExecution
from oautom.steps.branch import BranchExecution
from oautom.steps.context import Context
from oautom.steps.each import Bash
from oautom.steps.execution import Execution
from oautom.steps.file import FileExecution
from oautom.steps.flow import FlowExecution
from oautom.steps.map import MapExecution
from oautom.steps.python import PythonExecution
from oautom.steps.wait import WaitExecution
from oautom.steps.work import Skip, StepError

__all__ = [
    "ApprovalExecution",
    "Bash",
    "BashExecution",
    "BranchExecution",
    "Context",
    "Execution",
    "FileExecution",
    "FlowExecution",
    "MapExecution",
    "PythonExecution",
    "Skip",
    "StepError",
    "WaitExecution",
]
