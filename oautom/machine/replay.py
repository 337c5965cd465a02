"""The replay: the state of every Vect at any point of a log, from its events alone. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from oautom.errors import InvalidHistoryError
from oautom.machine.event import Event
from oautom.machine.graph import Graph
from oautom.machine.state import NO_OPTIONS, VectState
from oautom.machine.tables import PLAN_EVENTS, PLAN_MOVES, VECT_CREATED


def replay(events: Iterable[Event], upto: int | None = None) -> dict[str, VectState]:
    """Return the state of every Vect by its id, as it was after event number `upto`.

    The live engine moves by the same tables and the same fold, so this is the state that it had.

    Args:
        events: Events in the order of their log: all of it, its beginning, or those of some Vects.
        upto: Number of the last event to take in; None for all.

    Raises:
        InvalidHistoryError: No run can have produced these events; names the first that does not
            fit.
    """
    vects: dict[str, VectState] = {}
    last_seq = 0
    for event in events:
        if event.seq <= last_seq:
            raise InvalidHistoryError(event.seq, f"it comes after event {last_seq}")
        last_seq = event.seq
        if upto is not None and event.seq > upto:
            break
        if event.name in PLAN_EVENTS:
            if event.step is not None or (event.name, event.source, event.dest) not in PLAN_MOVES:
                raise InvalidHistoryError(event.seq, f"no plan tells of '{event.name}' like that")
            continue
        if event.name == VECT_CREATED:
            vects[event.vect] = _created(event, vects)
        elif event.vect in vects:
            vects[event.vect].advance(event)
        else:
            raise InvalidHistoryError(event.seq, f"vect {event.vect} has not been created")
    return vects


def _created(event: Event, vects: dict[str, VectState]) -> VectState:
    if event.vect in vects:
        raise InvalidHistoryError(event.seq, f"vect {event.vect} is created twice")
    try:
        graph, params = Graph(event.data["graph"]), event.data["params"]
    except KeyError as error:
        raise InvalidHistoryError(event.seq, f"it has no {error}") from error
    options = event.data.get("options", NO_OPTIONS)
    vect = VectState(event.flow, event.vect, graph, params, options)
    vect.apply(event)
    return vect
