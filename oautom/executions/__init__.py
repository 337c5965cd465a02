"""What a step does: the base class of all steps, and the kinds that come with oautom."""

from oautom.executions.approval import ApprovalExecution
from oautom.executions.base import Execution
from oautom.executions.bash import BashExecution
from oautom.executions.branch import BranchExecution
from oautom.executions.context import Context
from oautom.executions.flow import FlowExecution
from oautom.executions.map import MapExecution
from oautom.executions.python import PythonExecution
from oautom.executions.wait import WaitExecution
from oautom.executions.work import Skip, StepError

__all__ = [
    "ApprovalExecution",
    "BashExecution",
    "BranchExecution",
    "Context",
    "Execution",
    "FlowExecution",
    "MapExecution",
    "PythonExecution",
    "Skip",
    "StepError",
    "WaitExecution",
]
