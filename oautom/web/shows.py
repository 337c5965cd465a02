"""What each view shows, taken from a `Client`: plain values, for the templates to lay out."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from threading import Lock
from time import monotonic
from typing import Any, Final, NamedTuple

from markupsafe import Markup

from oautom.client import Client, EngineInfo, StepView, VectView, Waiting
from oautom.client.facts import slots_taken
from oautom.errors import OAutomError, SettingError, shown
from oautom.pictures.nodes import urgency
from oautom.web import texts
from oautom.web.links import Links

RUNS: Final = 50
STEPS: Final = 200
EVENTS: Final = 100
FAR: Final = 5_000
CARDS: Final = 100
SUMMARY: Final = 600
"""How much of a value stands where a person decides on it."""

GRAPH_BOXES: Final = 80
TIMELINE_EVENTS: Final = 10_000
"""Of more, a timeline is drawn when it is asked for: it takes as long as all else of the view."""

TIMELINE_ROWS: Final = 60
LOG_CHARACTERS: Final = 20_000
DAYS: Final = 14
DAY_RUNS: Final = 20_000
"""Of how many runs, the newest, the grid of days is made."""

VECT_STATES: Final = ("pending", "running", "paused", "ending", "success", "failed", "cancelled")
OPEN: Final = ("pending", "running", "paused", "ending")
BAD: Final = frozenset({"failed", "upstream_failed", "cancelled"})
ENDED: Final = frozenset({"success", "failed", "skipped", "upstream_failed", "cancelled"})

_WHY_SECONDS: Final = 0.05
_WHY_STEPS: Final = 10
_DEFAULT_ORDER: Final = ("failed", "running", "up_for_retry", "pending")


class Page(NamedTuple):
    """Which part of a list is shown.

    Attributes:
        number: Which page, from 1.
        has_more: Whether there is a next one.
    """

    number: int
    has_more: bool


# Runs


class Filters(NamedTuple):
    """Which runs are wanted, as the address has it."""

    flow: str = ""
    state: str = ""
    since: str = ""
    day: str = ""

    @property
    def address(self) -> dict[str, str]:
        """Its parts, for a link."""
        return {name: each for name, each in self._asdict().items() if each}


def runs(client: Client, filters: Filters, number: int) -> tuple[list[VectView], Page]:
    """Return one page of runs, newest first.

    Raises:
        OAutomError: A filter makes no sense, or the log cannot be read.
    """
    states = [each for each in filters.state.split(",") if each] or None
    if states == ["open"]:
        states = list(OPEN)
    day, since = texts.day_of(filters.day), texts.instant_of(filters.since)
    first, last = (number - 1) * RUNS, number * RUNS
    if day is None:
        found = client.vects(filters.flow or None, states, since, limit=last + 1)
    else:
        every = client.vects(filters.flow or None, states, day[0], limit=None)
        found = [each for each in every if each.created < day[1]]
    return found[first:last], Page(number, len(found) > last)


class Day(NamedTuple):
    """The runs of one flow on one day."""

    date: str
    counts: Mapping[str, int]

    @property
    def total(self) -> int:
        """How many."""
        return sum(self.counts.values())

    @property
    def worst(self) -> str:
        """The state by which the day is coloured."""
        order = ("failed", "cancelled", "running", "ending", "paused", "pending", "success")
        return next((each for each in order if each in self.counts), "")


class Days(NamedTuple):
    """The grid of days by flow, today first."""

    dates: list[str]
    rows: list[tuple[str, list[Day]]]
    is_whole: bool


def days(client: Client, now: datetime) -> Days:
    """Return how many runs of each flow have begun on each of the last days, by their state."""
    today = now.astimezone().date()
    dates = [today - timedelta(days=back) for back in range(DAYS)]
    found = client.vects(since=texts.midnight(dates[-1]), limit=DAY_RUNS)
    counts: dict[str, dict[str, Counter[str]]] = {}
    for view in found:
        date = view.created.astimezone().date().isoformat()
        counts.setdefault(view.flow, {}).setdefault(date, Counter())[view.state] += 1
    shown = [each.isoformat() for each in dates]
    rows = [
        (flow, [Day(date, by_date.get(date, {})) for date in shown])
        for flow, by_date in sorted(counts.items())
    ]
    return Days(shown, rows, len(found) < DAY_RUNS)


# One run


class Moment(NamedTuple):
    """The event after which a run is shown, among those of the run.

    Attributes:
        seq: Its number, or None for now.
        first: The number of the first event of the run.
        last: That of the newest one.
        before: That of the one before, or None.
        after: That of the next one, or None.
        place: Which event of the run it is, from 1.
        total: How many there are.
        name: What has happened.
        step: Where.
        time: When.
    """

    seq: int | None
    first: int
    last: int
    before: int | None
    after: int | None
    place: int
    total: int
    name: str
    step: str
    time: datetime


def moment(view: VectView, at: int | None) -> Moment:
    """Return where in the run an event stands.

    Args:
        view: The run, as it stands now.
        at: The number of an event, of another run as well; None for now.
    """
    events = view.events()
    numbers = [each.seq for each in events]
    place = len(events) if at is None else bisect_right(numbers, at)
    event = events[max(place, 1) - 1]
    before = bisect_left(numbers, event.seq if at is None else at) - 1
    return Moment(
        at,
        numbers[0],
        numbers[-1],
        numbers[before] if before >= 0 else None,
        numbers[place] if place < len(events) else None,
        place,
        len(events),
        event.name,
        event.step or "",
        event.time,
    )


class Steps(NamedTuple):
    """The steps of a run that are listed.

    Attributes:
        rows: The steps, and for each map how its instances stand.
        counts: How many steps are in which state, of all.
        page: Which part it is.
        of_map: The name of the map whose instances are listed; empty for the declared steps.
        state: The only state that is listed; empty for all.
    """

    rows: list[tuple[StepView, Mapping[str, int]]]
    counts: Mapping[str, int]
    page: Page
    of_map: str
    state: str


def steps(
    view: VectView, of_map: str = "", state: str = "", number: int = 1, size: int = STEPS
) -> Steps:
    """Return one page of the steps of a run: the instances of a map stand under that."""
    counts: Counter[str] = Counter()
    instances: dict[str, Counter[str]] = {}
    listed = []
    for step in view.steps.values():
        counts[step.state] += 1
        parent = step.parent
        if parent is not None:
            instances.setdefault(parent, Counter())[step.state] += 1
        is_wanted = parent == of_map if of_map else parent is None or bool(state)
        if is_wanted and (not state or step.state == state):
            listed.append(step)
    if of_map:  # what people look for is on the first page
        listed.sort(key=lambda step: urgency(step.state))
    first, last = (number - 1) * size, number * size
    rows: list[tuple[StepView, Mapping[str, int]]] = [
        (step, instances.get(step.name, {})) for step in listed[first:last]
    ]
    return Steps(rows, counts, Page(number, len(listed) > last), of_map, state)


def reasons(view: VectView, rows: Iterable[tuple[StepView, Mapping[str, int]]]) -> dict[str, str]:
    """Return why steps that have not ended stand still, of the first ones, by their names.

    Each sentence may look at all open runs, so there are only as many as take no time.
    """
    until, told = monotonic() + _WHY_SECONDS, dict[str, str]()
    names = [step.name for step, _ in rows if step.state not in ENDED][:_WHY_STEPS]
    for name, why in zip(names, view.reasons(names), strict=True):
        told[name] = why
        if monotonic() > until:
            break
    return told


def children(view: VectView, rows: Iterable[tuple[StepView, Mapping[str, int]]]) -> dict[str, str]:
    """Return the ids of the runs that steps have started, by the names of the steps."""
    return {step.name: step.child for step, _ in rows if step.child is not None}


class Value(NamedTuple):
    """A value, an error or a text, as far as a page shows it.

    Attributes:
        name: What it is.
        text: The part that is shown.
        size: How many characters there are.
        is_cut: Whether there are more than are shown.
        what: What it is called in the address of the whole.
        of: Which of these it is.
    """

    name: str
    text: str
    size: int
    is_cut: bool
    what: str
    of: str

    @property
    def is_short(self) -> bool:
        """Whether it fits a line."""
        return (
            self.what != "log" and len(self.text) <= texts.LINE_CHARACTERS and "\n" not in self.text
        )


def value(name: str, text: str, what: str, of: str = "", most: int | None = None) -> Value:
    """Return the beginning of a text."""
    most = texts.VALUE_CHARACTERS if most is None else most
    return Value(name, text[:most], len(text), len(text) > most, what, of)


def values(given: Mapping[str, Any], what: str, most: int | None = None) -> list[Value]:
    """Return values by their names."""
    return [
        value(str(name), texts.in_json(each), what, str(name), most) for name, each in given.items()
    ]


class AttemptShown(NamedTuple):
    """An attempt of a step.

    Attributes:
        attempt: The attempt.
        error: What went wrong, or None.
        log: The newest part of what it has written, or None.
    """

    attempt: Any
    error: Value | None
    log: Value | None


class StepShown(NamedTuple):
    """All that is shown of one step."""

    step: StepView
    why: str
    attempts: list[AttemptShown]
    inputs: list[Value]
    output: Value | None
    error: Value | None
    item: Value | None
    instances: Mapping[str, int]
    events: list[Any]


def step(
    view: VectView,
    step: StepView,
    why: str,
    most: int | None = None,
    own: list[Any] | None = None,
) -> StepShown:
    """Return all that is shown of one step.

    Args:
        view: Its run.
        step: The step.
        why: Why it is, or is not, running.
        most: How many characters of each value; None for as many as a page has.
        own: The events of the step, where all steps are shown: then the inputs of an item stand
            at its map only, since each has as many parts as there are items. None: they are
            looked for.
    """
    instances = Counter(view.steps[name].state for name in step.items)
    output = None
    if step.state == "success":
        output = value("output", texts.in_json(step.output), "output", "", most)
    inputs = step.inputs if own is None or step.parent is None else {}
    if own is None:
        own = [each for each in view.events() if each.step == step.name]
    traces = _traces(own)
    return StepShown(
        step,
        why,
        [_attempt(each, traces, most or LOG_CHARACTERS) for each in step.attempts],
        values(inputs, "input", most),
        output,
        None if step.error is None else value("error", texts.clean(step.error), "error"),
        None if step.parent is None else value("item", texts.in_json(step.item), "item"),
        instances,
        own[-EVENTS:],
    )


def _attempt(attempt: Any, traces: Mapping[int | None, object], most: int) -> AttemptShown:
    number, error = str(attempt.number), _error(attempt, traces)
    text = texts.written(attempt.log_text)
    log = None
    if text:
        shown = text[-most:]
        log = Value("log", shown, len(text), len(shown) < len(text), "log", number)
    told = None if error is None else value("error", texts.clean(error), "attempt", number, most)
    return AttemptShown(attempt, told, log)


def _traces(events: Iterable[Any]) -> dict[int | None, object]:
    return {each.attempt: each.data["traceback"] for each in events if "traceback" in each.data}


def _error(attempt: Any, traces: Mapping[int | None, object]) -> str | None:
    """Return what went wrong in an attempt, with its traceback where there is one."""
    told = traces.get(attempt.number)
    return str(told) if attempt.error is not None and told else attempt.error


def whole(view: VectView, what: str, step: str, of: str) -> str:
    """Return the whole of what a page shows the beginning of.

    Raises:
        OAutomError: There is no such step, value or attempt.
    """
    if what == "param":
        return texts.in_json(_of(view.params, "parameter", of))
    found = view.steps[step]
    if what == "output":
        return texts.in_json(found.output)
    if what == "item":
        return texts.in_json(found.item)
    if what == "input":
        return texts.in_json(_of(found.inputs, "input", of))
    if what == "error":
        return texts.clean(found.error or "")
    if what in ("log", "attempt"):
        attempt = _of({str(each.number): each for each in found.attempts}, "attempt", of)
        own = [each for each in view.events() if each.step == step]
        text = attempt.log_text if what == "log" else _error(attempt, _traces(own))
        return texts.clean(text or "")
    raise SettingError(f"there is no {shown(what)} of a step")


def _of(found: Mapping[str, Any], what: str, name: str) -> Any:
    if name not in found:
        raise SettingError(f"there is no {what} {shown(name)}")
    return found[name]


class Pictures(NamedTuple):
    """The graph and the timeline of a run, as markup; None for one that is drawn when asked for."""

    graph: Markup
    timeline: Markup | None


def pictures(view: VectView, links: Links, at: int | None, *, is_asked: bool = False) -> Pictures:
    """Return the pictures of a run; each step in them leads to its view.

    Args:
        view: The run.
        links: Where the views are.
        at: The number of the event after which it is shown; None for now.
        is_asked: Whether the timeline of a large run is wanted, too.
    """

    def href(step: str) -> str | None:
        return links.step(view.id, step, at) or None

    graph = Markup(view.to_svg(href=href, limit=GRAPH_BOXES, style=False))  # noqa: S704 - escaped
    if len(view.events()) > TIMELINE_EVENTS and not is_asked:
        return Pictures(graph, None)
    timeline = view.timeline_svg(href=href, limit=TIMELINE_ROWS, style=False)
    return Pictures(graph, Markup(timeline))  # noqa: S704 - as above


def events(view: VectView, number: int, step: str = "") -> tuple[list[Any], Page]:
    """Return one page of the events of a run, or of one of its steps, oldest first."""
    found = [each for each in view.events() if not step or each.step == step]
    first, last = (number - 1) * EVENTS, number * EVENTS
    return found[first:last], Page(number, len(found) > last)


# All runs


def waiting(client: Client) -> list[tuple[Waiting, list[Value]]]:
    """Return what waits for a person, each with the values on which they decide."""
    found = []
    for each in client.waiting()[:CARDS]:
        try:
            view = client.vect(each.vect)
            inputs = view.steps[each.step].inputs
            told = values(view.params, "param", SUMMARY) + values(inputs, "input", SUMMARY)
        except OAutomError:  # it has ended meanwhile, and was pruned
            continue
        found.append((each, told))
    return found


class Desk:
    """Counts what waits for a person: once by all open runs, then by the events that have come.

    Args:
        client: The log.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._lock = Lock()
        self._log: str | None = None
        self._seq = -1
        self._waiting: set[tuple[str, str]] = set()

    def count(self) -> int:
        """Return how many decisions are waited for; any thread.

        Raises:
            LogError: The log cannot be read.
        """
        with self._lock:
            log, seq = self._client.log_id, self._client.seq
            if log != self._log:
                self._log, self._seq = log, -1
            new = [] if self._seq in (-1, seq) else self._client.events(self._seq, limit=FAR + 1)
            if self._seq == -1 or seq < self._seq or len(new) > FAR:
                self._seq = seq
                self._waiting = {(each.vect, each.step) for each in self._client.waiting()}
            else:
                for event in new:
                    self._take(event)
            return len(self._waiting)

    def _take(self, event: Any) -> None:
        self._seq = event.seq
        if event.step is None:
            return
        if event.name == "step.started" and "prompt" in event.data:
            self._waiting.add((event.vect, event.step))
        elif event.dest != "running":
            self._waiting.discard((event.vect, event.step))


class Work(NamedTuple):
    """The engine, and what is at work.

    Attributes:
        engine: The engine, or None.
        rows: The steps that have a worker or a slot of a pool, as many as are shown.
        total: How many there are.
        workers: How many of them have a worker.
        pools: By the name of each pool, how many of its slots are taken, and how many it has.
    """

    engine: EngineInfo | None
    rows: list[Any]
    total: int
    workers: int
    pools: Mapping[str, tuple[int, int]]


def work(client: Client) -> Work:
    """Return who holds which worker and which slot of a pool."""
    engine, found = client.engine, client.working()
    taken = slots_taken(found)
    pools = {} if engine is None else engine.pools
    return Work(
        engine,
        found[:STEPS],
        len(found),
        sum(each.has_worker for each in found),
        {name: (taken.get(name, 0), slots) for name, slots in pools.items()},
    )


def at_moment(client: Client, vect: str, at: int | None, place: int) -> tuple[VectView, VectView]:
    """Return a run as it stands now, and as it is to be shown.

    Args:
        client: The log.
        vect: The id of the run.
        at: The number of the event after which; None for now.
        place: Which event of the run that is, from 1; 0 where `at` says it. After the last one is
            now.

    Raises:
        OAutomError: There is none, or it had not begun then.
    """
    now = client.vect(vect)
    if place:
        events = now.events()
        at = None if place >= len(events) else events[place - 1].seq
    if at is None:
        return now, now
    if at > client.seq:
        raise SettingError(f"the log has no event {at} yet: its newest one is {client.seq}")
    return now, now.at(at)
