"""oautom: an embeddable, event-sourced workflow engine. All public names are here."""

from typing import TYPE_CHECKING, Any

from oautom import events
from oautom.app import OAutom
from oautom.engine.clock import Clock, SystemClock
from oautom.engine.modes import OAutomMode
from oautom.errors import (
    CrossFlowDependencyError,
    CycleError,
    DuplicateFlowError,
    DuplicateStepError,
    EngineError,
    EventRefusedError,
    FlowChangedError,
    FlowError,
    FlowFrozenError,
    InvalidHistoryError,
    InvariantError,
    LogCorruptError,
    LogError,
    LogLockedError,
    LogVersionError,
    LostOutputError,
    NoEngineError,
    NotFinishedError,
    NotJsonError,
    OAutomError,
    ParamError,
    SettingError,
    StepFailedError,
    SubscriptionFailingError,
    UnansweredError,
    UnknownFlowError,
    UnknownInputError,
    UnknownParamError,
    UnknownPlanError,
    UnknownStepError,
    UnknownVectError,
    ValueTooLargeError,
    VectAlreadyRunningException,
    VectStateError,
    WithdrawnError,
    WorkerDiedError,
)
from oautom.events import Event, EventLog, GivenUp, MemoryEventLog
from oautom.events.subscribers import Subscription
from oautom.flows.flow import Flow
from oautom.flows.params import Param
from oautom.machine.rules import TriggerRule
from oautom.plans.planned import PLANNED
from oautom.plans.plans import Plan
from oautom.steps import (
    ApprovalExecution,
    Bash,
    BashExecution,
    BranchExecution,
    Context,
    Execution,
    FileExecution,
    FlowExecution,
    MapExecution,
    PythonExecution,
    Skip,
    StepError,
    WaitExecution,
)
from oautom.steps.function import StepFunction
from oautom.steps.options import Pool, RetryPolicy
from oautom.values.references import Reference
from oautom.vects.attempts import Attempt
from oautom.vects.vect import Step, Vect

if TYPE_CHECKING:
    from oautom.client import Client
    from oautom.events.sqlite import SqliteEventLog
    from oautom.steps.aws import LambdaExecution, NotInvokedError

__all__ = [
    "PLANNED",
    "ApprovalExecution",
    "Attempt",
    "Bash",
    "BashExecution",
    "BranchExecution",
    "Client",
    "Clock",
    "Context",
    "CrossFlowDependencyError",
    "CycleError",
    "DuplicateFlowError",
    "DuplicateStepError",
    "EngineError",
    "Event",
    "EventLog",
    "EventRefusedError",
    "Execution",
    "FileExecution",
    "Flow",
    "FlowChangedError",
    "FlowError",
    "FlowExecution",
    "FlowFrozenError",
    "GivenUp",
    "InvalidHistoryError",
    "InvariantError",
    "LambdaExecution",
    "LogCorruptError",
    "LogError",
    "LogLockedError",
    "LogVersionError",
    "LostOutputError",
    "MapExecution",
    "MemoryEventLog",
    "NoEngineError",
    "NotFinishedError",
    "NotInvokedError",
    "NotJsonError",
    "OAutom",
    "OAutomError",
    "OAutomMode",
    "Param",
    "ParamError",
    "Plan",
    "Pool",
    "PythonExecution",
    "Reference",
    "RetryPolicy",
    "SettingError",
    "Skip",
    "SqliteEventLog",
    "Step",
    "StepError",
    "StepFailedError",
    "StepFunction",
    "Subscription",
    "SubscriptionFailingError",
    "SystemClock",
    "TriggerRule",
    "UnansweredError",
    "UnknownFlowError",
    "UnknownInputError",
    "UnknownParamError",
    "UnknownPlanError",
    "UnknownStepError",
    "UnknownVectError",
    "ValueTooLargeError",
    "Vect",
    "VectAlreadyRunningException",
    "VectStateError",
    "WaitExecution",
    "WithdrawnError",
    "WorkerDiedError",
]


def __getattr__(name: str) -> Any:
    """Import what not every program uses only where it is used."""
    if name == "Client":
        from oautom.client import Client  # noqa: PLC0415

        return Client
    if name == "SqliteEventLog":
        return events.SqliteEventLog
    if name in ("LambdaExecution", "NotInvokedError"):
        from oautom.steps import aws  # noqa: PLC0415

        return getattr(aws, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
