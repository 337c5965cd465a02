"""Waits of the code of steps for Vects: which Vect waits for which, and the slots lent meanwhile.

A Vect waits for another one if the code of one of its steps does, or if one of its steps runs it as
a child; then it needs the end of each of these. A Vect that waits for its turn needs the end of
some of those that have the places. A wait that would close a circle never ends, so it is refused
before it begins: the last edge closes a circle, so it is enough to check each edge that is added.
All engines of a program share the edges, since a circle may lead through several.

The context variable `CALLED` says which step's code waits: `Work` sets it around each call.
"""

from __future__ import annotations

import sys
import threading
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from time import monotonic
from typing import NamedTuple

from oautom.engine.messages import Lend, Loan, Message, TakeBack
from oautom.engine.runner import Runner
from oautom.errors import EngineError
from oautom.machine.commands import Key, Place
from oautom.machine.tables import VECT_ENDS
from oautom.processes import forked
from oautom.steps.context import CALLED, Context
from oautom.vects.registry import Registry
from oautom.vects.run import Run

IsDone = Callable[[], bool]
Node = tuple["Waits", str]
"""A Vect: the waits of its engine, and its id."""


class _Needs(NamedTuple):
    """The needs of a Vect for coming to its end.

    Attributes:
        ends: The Vects that must all have ended.
        places: The Vects that have the places for which it waits in line.
        most: It never has its turn if this many of them do not end.
    """

    ends: Sequence[Node] = ()
    places: Sequence[Node] = ()
    most: int = 1


_lock = threading.Lock()  # guards the edges, and the notes of each `Waits`
_awaited: dict[Node, Counter[Node]] = {}  # edges, by the Vect whose code waits


def _begin_anew() -> None:
    global _lock  # noqa: PLW0603 - another thread of the parent may have had it
    _lock = threading.Lock()
    _awaited.clear()


forked.in_child(_begin_anew)


class Waits:
    """The waits of the steps of one engine.

    Args:
        put: Puts a message in the inbox of its scheduler; any thread.
        registry: Its runs.
        runner: Submits the work of its steps.

    Attributes:
        drive: Waits until a condition holds, with a timeout in seconds or None, as the engine does.
        look_again: As that of `Awaiting`.
        is_over: Whether the engine has stopped, and no slot is given back any more.
        on_wait: Called when an attempt begins to wait; any thread.
    """

    def __init__(self, put: Callable[[Message], None], registry: Registry, runner: Runner) -> None:
        self.drive: Callable[[IsDone, float | None], object]
        self.look_again: Callable[[IsDone], Awaitable[None]]
        self.is_over: IsDone = bool
        self.on_wait: Callable[[], object] = bool
        self.put = put
        self.runner = runner
        self._registry = registry
        self._vects: dict[Key, list[str]] = {}  # the Vects that an attempt waits for
        self._loans: dict[Key, Loan] = {}
        runner.home = self

    def vects_of(self, key: Key) -> list[str]:
        """Return the ids of the Vects that the code of an attempt waits for."""
        with _lock:
            return list(self._vects.get(key, ()))

    @contextmanager
    def waited_for(self, run: Run, timeout: float | None) -> Iterator[None]:
        """Make the block a wait of the caller for a run of this engine; the caller lends its slot.

        A caller that is not the code of a step has no slot, and nothing is done.

        Args:
            run: The run.
            timeout: Seconds until the caller goes on, even if no slot is free.

        Raises:
            EngineError: The wait would never end, or would block the run that it waits for.
        """
        wait = self._wait_of_caller(run, is_awaited=False)
        deadline = None if timeout is None else monotonic() + timeout
        try:
            yield
        finally:
            if wait is not None:
                wait.end(deadline)

    async def awaited(self, run: Run, end: Callable[[Run], Awaitable[None]]) -> None:
        """Await the `end` of a run of this engine, with the checks and the loan of `waited_for`."""
        wait = self._wait_of_caller(run, is_awaited=True)
        if wait is None:
            await end(run)
            return
        try:
            await end(run)
        except BaseException:  # also a cancel: no time to wait for a slot
            wait.end(0.0)
            raise
        await wait.end_awaited()

    def _wait_of_caller(self, run: Run, *, is_awaited: bool) -> _Wait | None:
        """Return a wait that has begun; None if the caller is not the code of a step."""
        context = CALLED.get()
        if context is None or not isinstance(context.home, Waits):
            return None
        home, key = context.home, (context.vect_id, context.step, context.attempt)
        if not home.runner.is_under_way(key):
            return None  # the step is over; code that it left running has no slot
        if home is self and self.runner.is_inline:
            raise _error(context, "the engine goes on only when the step has ended", _THREADS)
        if not is_awaited and home.runner.is_on_loop(key) and _is_in_loop():
            raise _error(context, "it would block the event loop of all async steps", _AWAIT)
        wait = _Wait(home, key, (self, run.id))
        with _lock:
            wait.check(context)
            wait.begin()
        return wait

    def check_turn(self, key: Key, child: Run) -> None:
        """Refuse to run a child whose turn would come only after the end of the attempt.

        Raises:
            EngineError: It would.
        """
        with _lock:
            why = _why_never((self, key[0]), (self, child.id))
        if why:
            raise EngineError(
                f"step '{key[1]}' of vect '{key[0]}' cannot run flow '{child.flow.name}': {why}; "
                f"raise max_active_vects of flow '{child.flow.name}', or let none of its open "
                f"vects wait for vect '{key[0]}'",
                flow=self._registry.runs[key[0]].flow.name,
                step=key[1],
            )

    def needs(self, vect: str) -> _Needs:
        """Return the needs of a Vect for coming to its end, as known now."""
        run, turns = self._registry.runs.get(vect), self._registry.turns
        if run is None or self.has_ended(vect):
            return _Needs()
        ends = [*_awaited.get((self, vect), ()), *((self, child) for child in _children(run))]
        places = [(self, holder) for holder in turns.in_the_way(run)]
        return _Needs(ends, places, run.flow.max_active_vects or 1)

    def has_ended(self, vect: str) -> bool:
        """Whether a Vect is over, so that no wait for it is long."""
        run = self._registry.runs.get(vect)
        if run is None:
            return True
        is_to_go_on = self._registry.turns.waits(run)  # a child that goes on
        return run.shown in VECT_ENDS and not is_to_go_on

    def is_awaited(self, vect: str, places: Iterable[Place]) -> bool:
        """Whether one of some steps waits for the end of a Vect, directly or through others."""
        with _lock:
            own = {key[:2]: vects for key, vects in self._vects.items()}
            left: list[Node] = []
            for place in places:
                left += [(self, each) for each in own.get(place, ())]
                left += [(self, child) for child in self._child_of(place)]
            seen: set[Node] = set()
            while left:
                node = left.pop()
                if node == (self, vect):
                    return True
                if node not in seen:
                    seen.add(node)
                    needs = node[0].needs(node[1])
                    left += [*needs.ends, *needs.places]
        return False

    def _child_of(self, place: Place) -> list[str]:
        """Return the child that a running step waits for, if it waits for one."""
        run = self._registry.runs.get(place[0])
        if run is None or not run.is_held:
            return []
        step = run.state.steps.get(place[1])
        child = None if step is None or step.kind != "flow" else step.child
        return [] if child is None or self.has_ended(child) else [child]

    def note(self, key: Key, vect: str) -> None:
        """Note that an attempt waits. With its first wait it lends its slot, if it has one."""
        vects = self._vects.setdefault(key, [])
        vects.append(vect)
        self.on_wait()
        if len(vects) == 1 and self.runner.may_lend and self.runner.has_slot(key):
            loan = self._loans[key] = Loan(key)
            self.put(Lend(loan))

    def forget(self, key: Key, vect: str) -> Loan | None:
        """Note that an attempt has stopped a wait; return its loan if that was the last wait."""
        self._vects[key].remove(vect)
        if self._vects[key]:
            return None
        del self._vects[key]
        return self._loans.pop(key, None)

    def check_workers(self, key: Key, context: Context) -> None:
        """Refuse a wait that would leave no free worker, if slots cannot be lent.

        Raises:
            EngineError: It would.
        """
        runner = self.runner
        if runner.may_lend or not runner.has_slot(key) or key in self._vects:
            return
        held = sum(runner.has_slot(each) for each in self._vects)
        if held + 1 >= runner.slots:
            what = f"all {runner.slots} workers of the executor would wait"
            if runner.slots == 1:
                what = "the only worker of the executor would wait"
            raise _error(context, what, _THREADS)


class _Wait:
    """A wait of an attempt for a Vect."""

    def __init__(self, home: Waits, key: Key, vect: Node) -> None:
        self._home = home
        self._key = key
        self._vect = vect
        self._own = (home, key[0])

    def check(self, context: Context) -> None:
        """Refuse a wait that would never end; errors as of `Waits.waited_for`."""
        if not self._home.has_ended(self._key[0]):
            if self._own == self._vect:
                why = f"vect '{self._key[0]}' is its own, and ends only after this step"
                raise _error(context, why, "")
            if why := _why_never(self._own, self._vect):
                raise _error(context, why, _NO_TURN if _TURN in why else "", self._vect[1])
        if self._home is self._vect[0]:
            self._home.check_workers(self._key, context)

    def begin(self) -> None:
        _awaited.setdefault(self._own, Counter())[self._vect] += 1
        self._home.note(self._key, self._vect[1])

    def _forget(self) -> Loan | None:
        with _lock:
            awaited = _awaited[self._own]
            awaited[self._vect] -= 1
            if not awaited[self._vect]:
                del awaited[self._vect]
                if not awaited:
                    del _awaited[self._own]
            return self._home.forget(self._key, self._vect[1])

    def end(self, deadline: float | None) -> None:
        """End the wait for the Vect, then wait for the slot, until the deadline at the latest."""
        home, loan = self._home, self._forget()
        if loan is None:
            return
        left = None if deadline is None else max(0.0, deadline - monotonic())
        home.put(TakeBack(loan, at_once=False))
        try:
            home.drive(lambda: loan.is_back or home.is_over(), left)
        finally:
            self._go_on(loan)

    async def end_awaited(self) -> None:
        """Do as `end`, without a deadline."""
        home, loan = self._home, self._forget()
        if loan is None:
            return
        home.put(TakeBack(loan, at_once=False))
        try:
            while not (loan.is_back or home.is_over()):
                await home.look_again(lambda: loan.is_back or home.is_over())
        finally:
            self._go_on(loan)

    def _go_on(self, loan: Loan) -> None:
        """Let a step go on without a free slot: it counts as one more that runs."""
        if not loan.is_back:
            self._home.put(TakeBack(loan, at_once=True))


_THREADS = "; use executor='threads', or a FlowExecution, which needs no worker"
_TURN = "waits for its turn"
_NO_TURN = "; do not wait for it, or raise max_active_vects of its flow"
_AWAIT = "; write `await vect`, or wait in asyncio.to_thread()"


def _error(context: Context, why: str, remedy: str, vect: str = "") -> EngineError:
    what = f"wait for vect '{vect}'" if vect else "wait for a Vect"
    return EngineError(
        f"step '{context.step}' of vect '{context.vect_id}' cannot {what}: {why}{remedy}",
        flow=context.flow,
        step=context.step,
    )


def _children(run: Run) -> list[str]:
    """Return the children that running steps of a run wait for."""
    if not (run.is_held and run.state.options):
        return []
    steps = list(run.state.steps.values())  # in one C call: a map may be making instances
    flows = (step for step in steps if step.kind == "flow" and step.state == "running")
    return [step.child for step in flows if step.child is not None]


def _why_never(own: Node, goal: Node) -> str:
    """Return the reason why `goal` does not end before `own` has; empty if it may.

    First, all that `goal` needs is found; for a line, the Vects that have the places, not the
    others that wait in it. Then the Vects that can end although `own` does not are removed, again
    and again.
    """
    needs: dict[Node, _Needs] = {}
    left, is_reached = [goal], False
    while left:
        node = left.pop()
        is_reached = is_reached or node == own
        if node not in needs and node != own:
            needs[node] = node[0].needs(node[1])
            left += [*needs[node].ends, *needs[node].places]
    if not is_reached:
        return ""
    stuck, before = dict.fromkeys(reversed(needs)), 0  # those without needs first
    while before != len(stuck):
        before = len(stuck)
        for node in list(stuck):
            ends, places, most = needs[node]
            is_held_up = own in ends or any(end in stuck for end in ends)
            if not is_held_up and sum(p == own or p in stuck for p in places) < most:
                del stuck[node]
    return _chain(own, goal, {node: needs[node] for node in stuck}) if goal in stuck else ""


def _chain(own: Node, goal: Node, stuck: dict[Node, _Needs]) -> str:
    """Return the chain of waits from `goal` to `own`, in words; empty if there is none."""
    before: dict[Node, Node] = {}
    found = deque([goal])
    while found and own not in before:
        node = found.popleft()
        for each in (*stuck[node].ends, *stuck[node].places) if node in stuck else ():
            if each not in before and (each == own or each in stuck):
                before[each] = node
                found.append(each)
    chain = link = ""
    path = [own] if own in before else []
    while path and path[-1] != goal:
        path.append(before[path[-1]])
    for node, behind in pairwise(reversed(path)):
        if behind in stuck[node].ends:
            chain, link = f"{chain}{link}waits for vect '{behind[1]}'", ", which "
        else:
            chain += f"{link}{_TURN}, which comes when vect '{behind[1]}' has ended"
            link = "; that one "
    who = "it" if chain.startswith(_TURN) else f"vect '{goal[1]}'"
    return f"{who} {chain}" if chain else ""


def _is_in_loop() -> bool:
    """Whether an event loop runs on this thread."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return False
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
