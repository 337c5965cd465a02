"""`WaitExecution`: a step that waits for a time, also when the program is run again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Unpack

from oautom.errors import SettingError, shown
from oautom.steps.arguments import place_of, uses_in, wired
from oautom.steps.context import Context
from oautom.steps.execution import Execution
from oautom.steps.options import StepOptions
from oautom.steps.owner import Owner
from oautom.values.json import SECONDS_MAX, at_heart, plain_number, too_long
from oautom.values.references import Reference


class WaitExecution(Execution):
    """A step that waits for a time, and takes no worker.

    The time is in the log: when the program dies and is run again, the step waits for the rest.

    Args:
        name: Name of the step, unique in its flow.
        flow: The flow that it belongs to.
        seconds: How long it waits from its start, at most a hundred years.
        until: The end of the wait: an aware datetime, such a time as ISO text, or a reference to
            one of these, as `a.output` and `flow.param('when')`. If the value of the reference is
            no time, the step fails. If the time is past, the step does not wait.
        options: As of every `Execution`; `retry` and `timeout` have no meaning here.

    Raises:
        FlowError: An argument cannot be used, or not exactly one of `seconds` and `until` is given.
    """

    kind = "wait"

    def __init__(
        self,
        name: str,
        flow: Owner,
        *,
        seconds: float | None = None,
        until: datetime | str | Reference | Execution | None = None,
        **options: Unpack[StepOptions],
    ) -> None:
        if (seconds is None) == (until is None):
            raise self.wrong(flow, name, "give either seconds or until")
        try:
            self.seconds = None if seconds is None else _seconds(seconds)
            self.until = None if until is None else _instant(wired(flow, name, until))
        except SettingError as error:
            raise self.wrong(flow, name, str(error)) from None
        super().__init__(name, flow, **options)
        if isinstance(self.until, Reference):
            self.follow(uses_in({"until": self.until}))

    def options(self) -> Mapping[str, Any]:
        """Return the non-default options, with the time."""
        match self.until:
            case None:
                return {**super().options(), "delay": self.seconds}
            case Reference():
                return {**super().options(), "until": place_of(self.until, self.flow)}
        return {**super().options(), "until": self.until.isoformat()}

    def wanted(self, place: Sequence[str | int]) -> Any:
        """Return the types that a time may have."""
        return datetime | str

    def run(self, context: Context) -> None:
        """Do nothing: the engine waits."""


def _seconds(given: object) -> float:
    seconds = plain_number(given)
    if seconds is None or seconds < 0:
        raise SettingError(f"seconds must be a number from 0, not {shown(given)}")
    if seconds > SECONDS_MAX:
        raise SettingError(f"seconds {too_long(seconds)}")
    return seconds


def _instant(given: Any) -> datetime | Reference:
    """Return a time of any class and time zone as an exact datetime in UTC."""
    if isinstance(given, Reference):
        return given
    try:
        text = at_heart(given)
        given = datetime.fromisoformat(text) if type(text) is str else given
        offset = given.utcoffset()
        if offset is not None:
            day = given.year, given.month, given.day
            time = given.hour, given.minute, given.second, given.microsecond
            exact: datetime = datetime(*day, *time, tzinfo=UTC) - offset
            return exact
    except Exception as error:  # user code: a time zone may raise anything
        why = f": {error}" if isinstance(error, OverflowError) else ""
        raise SettingError(f"{_UNTIL}, not {shown(given)}{why}") from error
    raise SettingError(f"{_UNTIL}, not {shown(text)}, which is naive: it has no time zone")


_UNTIL: Final = "until must be a datetime with a time zone"
