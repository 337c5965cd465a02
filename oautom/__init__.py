"""oautom: an embeddable, event-sourced workflow engine. All public names are here."""

from oautom.app import OAutom, OAutomMode
from oautom.clock import Clock, SystemClock
from oautom.errors import (
    CrossFlowDependencyError,
    CycleError,
    DuplicateFlowError,
    DuplicateStepError,
    EngineError,
    FlowError,
    FlowFrozenError,
    InvalidHistoryError,
    InvariantError,
    LogError,
    NotFinishedError,
    NotJsonError,
    OAutomError,
    SettingError,
    StepFailedError,
    UnknownFlowError,
    UnknownInputError,
    UnknownStepError,
    UnknownVectError,
    VectAlreadyRunningException,
    WorkerDiedError,
)
from oautom.events import Event, EventLog, MemoryEventLog
from oautom.executions import BashExecution, Context, Execution, PythonExecution
from oautom.flow import Flow
from oautom.vect import Step, Vect

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
    "FlowError",
    "FlowFrozenError",
    "InvalidHistoryError",
    "InvariantError",
    "LogError",
    "MemoryEventLog",
    "NotFinishedError",
    "NotJsonError",
    "OAutom",
    "OAutomError",
    "OAutomMode",
    "PythonExecution",
    "SettingError",
    "Step",
    "StepFailedError",
    "SystemClock",
    "UnknownFlowError",
    "UnknownInputError",
    "UnknownStepError",
    "UnknownVectError",
    "Vect",
    "VectAlreadyRunningException",
    "WorkerDiedError",
]
