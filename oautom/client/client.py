"""`Client`: whoever wants to know how runs stand, or to steer them, from any process.

It needs no flow declared, takes no lock, imports nothing of the user's, and makes no file. What it
wants done stands as a row in the file: the engine takes it, and what came of it is the answer. A
row has one owner at a time; `events.requests` says who.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from datetime import MINYEAR, UTC, datetime, timedelta
from itertools import islice
from typing import Any, Final, Literal, cast

from oautom.client.engine import EngineInfo, PlanInfo
from oautom.client.facts import Working, past_of_flow, states_of, working_in
from oautom.client.follow import Follow
from oautom.client.forecast import Forecast, Past
from oautom.client.sources import App, AppSource, FileSource
from oautom.client.steering import Answer, Backfill
from oautom.client.views import VectView, Waiting, views_of
from oautom.errors import SettingError, shown
from oautom.machine.event import Event
from oautom.machine.kinds import kind_of
from oautom.machine.state import VectState
from oautom.machine.tables import VECT_STATES
from oautom.plans.backfill import Moment, parallel_of, text_of
from oautom.values.json import SECONDS_MAX, at_heart, plain_count, time_limit
from oautom.values.names import check_name, has_members, one_of, plain_text

Params = Mapping[str, Any] | None
Id = str | None

ANSWER_SECONDS: Final = 30.0
"""How long it is waited for the answer of an engine, unless it is told otherwise."""

_STRANDED: Final = "stranded"


class Client:
    """Shows the Vects of a log, and steers them: from any process, on any thread.

    What it asks for is answered by the engine at work, wherever that is: done, or refused with the
    error that the method of `Vect` or `OAutom` raises. In a forked child it goes on as it is.

    Args:
        source: The path of the file of a durable log, which may not be there yet; or an `OAutom` of
            this process: then the methods are those of the app, and in foreground mode it is driven
            by whoever asks or waits.

    Raises:
        SettingError: It is neither.
    """

    def __init__(self, source: str | os.PathLike[str] | App) -> None:
        self._source: FileSource | AppSource
        if isinstance(source, str | os.PathLike):
            self._source = FileSource(source)
        elif has_members(source, "log", "start", "vect", "is_driven"):
            self._source = AppSource(source)
        else:
            raise SettingError(
                f"a client needs the path of a log, or an OAutom, not {shown(source)}"
            )

    # What there is

    @property
    def engine(self) -> EngineInfo | None:
        """The engine at work, or None.

        Raises:
            LogError: The log cannot be read.
        """
        return self._source.engine()

    @property
    def seq(self) -> int:
        """The number of the newest event of the log, 0 before the first.

        Raises:
            LogError: The log cannot be read.
        """
        return self._source.log.committed_seq

    def vects(
        self,
        flow: str | None = None,
        state: str | Collection[str] | None = None,
        since: datetime | timedelta | None = None,
        limit: int | None = 100,
    ) -> list[VectView]:
        """Return the Vects, newest first.

        Args:
            flow: The name of their flow; None for all.
            state: The state in which they are, or several; None for all. `'stranded'` is for those
                that are open in whatever state, and with which the engine cannot go on.
            since: When they were created at the earliest (aware), or how long ago; None for all.
            limit: How many at most; None for all.

        Raises:
            SettingError: An argument cannot be used.
            LogError: The log cannot be read.
        """
        log = self._source.log
        states = _states_of(state)
        if limit is not None and plain_count(limit) is None:
            raise SettingError(f"limit must be a positive int, or None, not {shown(limit)}")
        flow = None if flow is None else check_name("flow", flow)
        wanted = states if states is None or _STRANDED not in states else None
        most = limit if wanted == states else None
        found = log.newest_vects(most, flow, wanted, _instant_of(since))
        if wanted != states:
            stranded = self._source.told().stranded
            kept = {each.id for each in log.open_vects()} & stranded.keys()
            found = [each for each in found if each.state in (states or ()) or each.id in kept]
        return views_of(self._source, found[:limit])

    def vect(self, id: str) -> VectView:  # noqa: A002 - the public word
        """Return a Vect as it stands now.

        Raises:
            UnknownVectError: There is no such Vect, or it has been pruned.
            LogError: The log cannot be read.
        """
        return VectView.read(self._source, self._source.entry(id))

    def waiting(self) -> list[Waiting]:
        """Return what waits for a person, oldest Vect first.

        Raises:
            LogError: The log cannot be read.
        """
        return [each for vect in states_of(self._source.log) for each in _waiting(vect)]

    def plans(self) -> list[PlanInfo]:
        """Return the plans of the engine at work, or of the last one.

        Raises:
            LogError: The log cannot be read.
        """
        told, log, now = self._source.told(), self._source.log, datetime.now(UTC)
        return [told.plan(name, log, now) for name in told.plans]

    def working(self) -> list[Working]:
        """Return which steps have a worker, or a slot of a pool, oldest Vect first.

        It is what the log tells: empty where no engine is at work. A function that goes on after
        its step was cancelled, or had its timeout, still has its worker, and is not among them.

        Raises:
            LogError: The log cannot be read.
        """
        return [] if self.engine is None else working_in(self._source.log)

    def past(self, flow: str) -> Past:
        """Return how long the steps of a flow took, in the newest runs that have ended.

        Raises:
            LogError: The log cannot be read.
        """
        return past_of_flow(self._source.log, check_name("flow", flow))

    def time_left(self, id: str, past: Past | None = None) -> Forecast | None:  # noqa: A002 - the public word
        """Return how long a Vect will still take, by how long others of its flow took.

        Args:
            id: Its id.
            past: What `past` has returned, so that it is not read again.

        Returns:
            None if there are no others, or it has ended or is paused.

        Raises:
            UnknownVectError: There is no such Vect, or it has been pruned.
            LogError: The log cannot be read.
        """
        view = self.vect(id)
        return view.time_left(self.past(view.flow) if past is None else past)

    def events(
        self, after: int = 0, vect: str | None = None, limit: int | None = None
    ) -> list[Event]:
        """Return the events that there are, in the order of the log; see `follow`.

        Args:
            after: The number of the event after which to begin.
            vect: The id of the only Vect wanted; None for all.
            limit: How many at most, the first ones; None for all.

        Raises:
            UnknownVectError: There is no such Vect.
            SettingError: An argument cannot be used.
            LogError: The log cannot be read.
        """
        number = _number_of(after)
        if limit is not None and plain_count(limit) is None:
            raise SettingError(f"limit must be a positive int, or None, not {shown(limit)}")
        name = None if vect is None else self._source.entry(vect).id
        return list(islice(self._source.log.read(after=number, vect=name), limit))

    def follow(self, after: int = 0, vect: str | None = None) -> Follow:
        """Return the events that there are, and then those that come, for `for` or `async for`.

        It costs next to nothing while nothing happens, and is at most a tenth of a second behind.

        Args:
            after: The number of the event after which to begin.
            vect: The id of the only Vect wanted: it ends with that. None for all; then it ends
                where it is closed.

        Raises:
            UnknownVectError: There is no such Vect.
            SettingError: `after` is no number of an event.
            LogError: The log cannot be read.
        """
        number = _number_of(after)
        name = None if vect is None else self._source.entry(vect).id
        return Follow(lambda: self._source.log, number, name)

    @property
    def log_id(self) -> str | None:
        """The identity of the log, which another one at its path does not have; None in memory.

        Raises:
            LogError: The log cannot be read.
        """
        return self._source.log.id

    def text(self, vect: str, step: str, attempt: int) -> str:
        """Return what an attempt of a step has written so far: nothing of the Vect is read for it.

        Args:
            vect: The id of the Vect.
            step: The name of the step.
            attempt: The number of the attempt.

        Raises:
            LogError: The log cannot be read.
        """
        text = self._source.log.text((vect, step, attempt))
        return "" if text is None else text.shown(is_whole=False)

    def at_once(self) -> AbstractContextManager[None]:
        """Give a context in which this thread reads what thousands of steps have written faster.

        It keeps the file of the log open, so it should not last longer than needed: a child that
        is forked meanwhile cannot read the log.

        Raises:
            LogError: The log cannot be read.
        """
        return self._source.log.at_once()

    def wait(self, id: str, timeout: float | None = None) -> str:  # noqa: A002 - the public word
        """Wait until a Vect has ended, and return the state in which it has.

        Args:
            id: Its id.
            timeout: Seconds to wait at the longest; None for as long as it takes.

        Raises:
            TimeoutError: The time was up first; the Vect goes on.
            UnknownVectError: There is no such Vect, or it has been pruned.
            LogError: The log cannot be read.
        """
        return self._source.wait(self._source.entry(id).id, time_limit(timeout))

    # What is asked

    def start(
        self,
        flow: str,
        params: Params = None,
        *,
        vect_id: Id = None,
        when_full: Literal["raise", "wait"] | None = None,
        until: str | Iterable[str] | None = None,
        only: str | None = None,
        given: Mapping[str, Any] | str | None = None,
        timeout: float = ANSWER_SECONDS,
        queue: bool = False,
    ) -> str:
        """Start a flow, and return the id of its Vect when the log has it: then it is never lost.

        Args:
            flow: The name of the flow.
            params: The parameters by name, as JSON; texts that can be made values of their types.
            vect_id: An id of your own: saying it twice is the same as saying it once.
            when_full: As of `OAutom.start`.
            until: As of `OAutom.start`: a step or several, by name.
            only: As of `OAutom.start`: a step, by name.
            given: As of `OAutom.start`: outputs by step, or the id of a Vect.
            timeout: Seconds to wait for the answer of the engine.
            queue: Where no engine is at work, leave the request in the file for the next one.

        Raises:
            NoEngineError: No engine is at work; nothing was done.
            WithdrawnError: None has come to it in time; nothing was done.
            UnansweredError: The engine has begun, and not answered in time.
            LogError: The log cannot be read, or this process may not write it.
            Whatever `OAutom.start` raises.
        """
        name = None if vect_id is None else check_name("vect", vect_id)
        new = name or os.urandom(8).hex()
        told: dict[str, Any] = {"flow": plain_text(flow, "flow")}
        if params is not None:
            told["params"] = params
        if when_full is not None:
            told["when_full"] = when_full
        if until is not None:
            told["until"] = _names_of(until)
        if only is not None:
            told["only"] = plain_text(only, "only")
        if given is not None:
            told["given"] = given
        self._source.start(new, told, _seconds_of(timeout), is_queued=bool(queue))
        return new

    def backfill(
        self,
        flow: str,
        first: Moment,
        last: Moment,
        *,
        plan: str | None = None,
        parallel: int | None = None,
        timeout: float = ANSWER_SECONDS,
        queue: bool = False,
    ) -> Backfill:
        """Start a flow for each past time of a plan that has no Vect; see `OAutom.backfill`.

        Args:
            flow: The name of the flow.
            first: As of `OAutom.backfill`.
            last: As of `OAutom.backfill`.
            plan: The name of the plan, if the flow has several.
            parallel: How many of them are open at once, at most.
            timeout: Seconds to wait for the answer of the engine.
            queue: Where no engine is at work, leave the request in the file for the next one.

        Raises:
            NoEngineError: No engine is at work; nothing was done.
            WithdrawnError: None has come to it in time; nothing was done.
            UnansweredError: The engine has begun, and not answered in time.
            LogError: The log cannot be read, or this process may not write it.
            Whatever `OAutom.backfill` raises.
        """
        told = {"flow": plain_text(flow, "flow"), **_range(first, last)}
        if plan is not None:
            told["plan"] = plain_text(plan, "plan")
        most = parallel_of(parallel, told["flow"])
        more = {} if most is None else {"parallel": most}
        seconds = _seconds_of(timeout)
        return self._source.backfill({**told, **more}, seconds, is_queued=bool(queue))

    def missing(
        self, flow: str, first: Moment, last: Moment, *, plan: str | None = None
    ) -> list[str]:
        """Return the ids of the Vects that `backfill` would start, by what the engine tells.

        Raises:
            UnknownPlanError: The flow has no such plan, or several.
            SettingError: An argument cannot be used, or the times cannot be told here.
            LogError: The log cannot be read.
        """
        ends, log = _range(first, last), self._source.log
        both = (ends["from"], ends["to"])
        return self._source.told().missing(flow, plan, both, log, datetime.now(UTC))

    def cancel(
        self,
        id: str,  # noqa: A002 - the public word
        reason: str = "",
        *,
        timeout: float = ANSWER_SECONDS,
        queue: bool = False,
    ) -> Answer:
        """End a Vect; see `Vect.cancel`.

        Args:
            id: Its id.
            reason: Why, for the log.
            timeout: Seconds to wait for the answer of the engine.
            queue: Where no engine is at work, leave the request in the file for the next one.

        Returns:
            What has come of it: the number of its event. Where it was left for the next engine,
            the number of the request, for `answer`.

        Raises:
            NoEngineError: No engine is at work; nothing was done.
            WithdrawnError: None has come to it in time; nothing was done.
            UnansweredError: The engine has begun, and not answered in time.
            UnknownVectError: There is no such Vect, or it has been pruned.
            UnknownFlowError: The program at work has not declared its flow.
            LogError: The log cannot be read, or this process may not write it.
            Whatever the method of `Vect` raises.
        """
        told = {"reason": plain_text(reason, "reason")}
        return self._ask(id, "cancel", told, timeout, queue)

    def pause(
        self,
        id: str,  # noqa: A002 - the public word
        *,
        timeout: float = ANSWER_SECONDS,
        queue: bool = False,
    ) -> Answer:
        """Have nothing more of a Vect start; see `Vect.pause`, and `cancel` here."""
        return self._ask(id, "pause", {}, timeout, queue)

    def resume(
        self,
        id: str,  # noqa: A002 - the public word
        *,
        timeout: float = ANSWER_SECONDS,
        queue: bool = False,
    ) -> Answer:
        """Have a Vect go on that was paused; see `Vect.resume`, and `cancel` here."""
        return self._ask(id, "resume", {}, timeout, queue)

    def retry(
        self,
        id: str,  # noqa: A002 - the public word
        *,
        timeout: float = ANSWER_SECONDS,
        queue: bool = False,
    ) -> Answer:
        """Have run again what has failed or was cancelled; see `Vect.retry`, and `cancel` here."""
        return self._ask(id, "retry", {}, timeout, queue)

    def approve(
        self,
        id: str,  # noqa: A002 - the public word
        step: str,
        by: str,
        data: Any = None,
        *,
        timeout: float = ANSWER_SECONDS,
        queue: bool = False,
    ) -> Answer:
        """Approve what a step waits for; see `Vect.approve`, and `cancel` here.

        Who comes too late is told who was quicker, by a `VectStateError`.
        """
        told = {"step": plain_text(step, "step"), "by": plain_text(by, "by")}
        more = {} if data is None else {"data": data}
        return self._ask(id, "approve", {**told, **more}, timeout, queue)

    def reject(
        self,
        id: str,  # noqa: A002 - the public word
        step: str,
        by: str,
        reason: str = "",
        *,
        timeout: float = ANSWER_SECONDS,
        queue: bool = False,
    ) -> Answer:
        """Reject what a step waits for: it fails. Else as `approve`."""
        told = {"step": plain_text(step, "step"), "by": plain_text(by, "by")}
        told["reason"] = plain_text(reason, "reason")
        return self._ask(id, "reject", told, timeout, queue)

    def answer(self, number: int) -> Answer | None:
        """Return what has become of a request, None as long as nothing has.

        Args:
            number: That of an `UnansweredError`, or of a request that was left for an engine.

        Raises:
            SettingError: There is no such request, or its answer is older than an hour.
            LogError: The log cannot be read.
        """
        return self._source.answer(number)

    def _ask(
        self,
        id: str,  # noqa: A002 - the public word
        action: str,
        told: Mapping[str, Any],
        timeout: object,
        queue: object,
    ) -> Answer:
        seconds = _seconds_of(timeout)
        vect = self._source.entry(id).id
        return self._source.ask(vect, action, told, seconds, is_queued=bool(queue))

    def __repr__(self) -> str:
        """Return where it looks."""
        return f"<Client of {self._source!r}>"


def _states_of(state: object) -> frozenset[str] | None:
    if state is None:
        return None
    heart = at_heart(state)
    given = [heart] if type(heart) is str else state
    known = (*VECT_STATES, _STRANDED)
    if not isinstance(given, Collection) or any(one_of(each, known) is None for each in given):
        listed = ", ".join(map(repr, known))
        raise SettingError(f"state must be some of {listed}, not {shown(state)}")
    return frozenset(str(at_heart(each)) for each in given)


def _names_of(until: object) -> list[str]:
    given = [until] if isinstance(until, str) else until
    if not isinstance(given, Iterable):
        raise SettingError(f"until must be the name of a step, or several, not {shown(until)}")
    return [plain_text(each, "until") for each in given]


def _range(first: object, last: object) -> dict[str, str]:
    return {"from": text_of(first, "from"), "to": text_of(last, "to")}


def _number_of(after: object) -> int:
    if (number := plain_count(after, 0)) is None:
        raise SettingError(f"after must be the number of an event, from 0, not {shown(after)}")
    return number


def _instant_of(since: object) -> datetime | None:
    if since is None:
        return None
    if issubclass(type(since), timedelta):
        try:
            return datetime.now(UTC) - cast("timedelta", since)
        except OverflowError:
            return None
    if not issubclass(type(since), datetime) or cast("datetime", since).tzinfo is None:
        raise SettingError(
            f"since must be a datetime with a time zone, or a timedelta, not {shown(since)}"
        )
    try:
        return cast("datetime", since).astimezone(UTC)
    except OverflowError:  # before the first moment in UTC, or after the last one
        is_first = cast("datetime", since).year == MINYEAR
        return datetime.min.replace(tzinfo=UTC) if is_first else datetime.max.replace(tzinfo=UTC)


def _seconds_of(timeout: object) -> float:
    number = at_heart(timeout)
    if type(number) not in (int, float) or not number >= 0:  # nor is a NaN
        raise SettingError(f"timeout must be seconds, from 0, not {shown(timeout)}")
    return float(min(number, SECONDS_MAX))


def _waiting(vect: VectState) -> list[Waiting]:
    return [
        Waiting(
            vect.id,
            step.name,
            vect.flow,
            step.prompt or "",
            step.start_date,
            step.until,
        )
        for step in vect.steps.values()
        if step.state == "running" and kind_of(step.kind).ended_by == "person"
    ]
