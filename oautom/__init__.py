"""oautom: an embeddable, event-sourced workflow engine. All public names are here."""

from typing import TYPE_CHECKING, Any

from oautom import events
from oautom.app import OAutom
from oautom.clock import Clock, SystemClock
from oautom.engine import OAutomMode
from oautom.errors import (
    CrossFlowDependencyError,
    CycleError,
    DuplicateFlowError,
    DuplicateStepError,
    EngineError,
    FlowChangedError,
    FlowError,
    FlowFrozenError,
    InvalidHistoryError,
    InvariantError,
    LogCorruptError,
    LogError,
    LogLockedError,
    LogVersionError,
    NotFinishedError,
    NotJsonError,
    OAutomError,
    SettingError,
    StepFailedError,
    UnknownFlowError,
    UnknownInputError,
    UnknownStepError,
    UnknownVectError,
    ValueTooLargeError,
    VectAlreadyRunningException,
    WorkerDiedError,
)
from oautom.events import Event, EventLog, MemoryEventLog
from oautom.events.subscribers import Subscription
from oautom.executions import BashExecution, Context, Execution, PythonExecution, Skip
from oautom.flow import Flow
from oautom.plans import Plan
from oautom.rules import TriggerRule
from oautom.vect import Step, Vect

if TYPE_CHECKING:
    from oautom.events.sqlite import SqliteEventLog

__all__ = [
    "BashExecution",
    "Clock",
    "Context",
    "CrossFlowDependencyError",
    "CycleError",
    "DuplicateFlowError",
    "DuplicateStepError",
    "EngineError",
    "Event",
    "EventLog",
    "Execution",
    "Flow",
    "FlowChangedError",
    "FlowError",
    "FlowFrozenError",
    "InvalidHistoryError",
    "InvariantError",
    "LogCorruptError",
    "LogError",
    "LogLockedError",
    "LogVersionError",
    "MemoryEventLog",
    "NotFinishedError",
    "NotJsonError",
    "OAutom",
    "OAutomError",
    "OAutomMode",
    "Plan",
    "PythonExecution",
    "SettingError",
    "Skip",
    "SqliteEventLog",
    "Step",
    "StepFailedError",
    "Subscription",
    "SystemClock",
    "TriggerRule",
    "UnknownFlowError",
    "UnknownInputError",
    "UnknownStepError",
    "UnknownVectError",
    "ValueTooLargeError",
    "Vect",
    "VectAlreadyRunningException",
    "WorkerDiedError",
]


def __getattr__(name: str) -> Any:
    """Leave to `oautom.events` what is imported only where it is used."""
    if name == "SqliteEventLog":
        return events.SqliteEventLog
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
