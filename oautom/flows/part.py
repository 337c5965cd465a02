"""What a Vect runs of its flow, if that is not all: some steps, or one alone. Pure.

A part stands in `vect.created`: its graph and options are those of its steps, and its settings name
what was asked for. So a Vect that goes on in another program is compared with the same part of the
flow of today.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from oautom.flows.flow import Flow
from oautom.machine.event import NO_DATA
from oautom.machine.graph import Graph
from oautom.machine.kinds import GIVEN
from oautom.machine.state import NO_OPTIONS, Options

_OF_OTHERS: Final = frozenset({"trigger_rule", "teardown_of"})
"""The options that say how the ends of other steps matter: alone, a step has none beside it."""


class Part(NamedTuple):
    """A part of a flow.

    Attributes:
        until: The names of its last steps, if it is these and what they wait for.
        only: The name of its only step that runs, if it is that alone.
        given: The outputs that this step gets in place of running the steps before it, by the names
            of those: as the log has them.
        source: The id of the Vect whose outputs these are; empty if they were handed over.
    """

    until: Sequence[str] = ()
    only: str | None = None
    given: Mapping[str, Any] = NO_DATA
    source: str = ""

    @classmethod
    def told(cls, created: Mapping[str, Any]) -> Part:
        """Return the part that a Vect is, by the data of its `vect.created`."""
        settings, options = created.get("settings", NO_DATA), created.get("options", NO_OPTIONS)
        given = {name: each for name, each in options.items() if is_given(each)}
        outputs = {name: each.get("output") for name, each in given.items()}
        source = next((str(each.get("source", "")) for each in given.values()), "")
        return cls(settings.get("until", ()), settings.get("only"), outputs, source)

    def graph(self, flow: Flow) -> Graph:
        """Return the graph of the part in a flow."""
        if self.only is not None:
            return flow.alone(self.only, self.given)
        return flow.part(self.until or None)

    def options(self, flow: Flow) -> Options:
        """Return the non-default options of its steps, by name."""
        graph = self.graph(flow)
        options = {name: each for name, each in flow.options.items() if name in graph}
        if self.only is None:
            return options
        own = {k: v for k, v in options.pop(self.only, NO_DATA).items() if k not in _OF_OTHERS}
        given = {
            name: {"kind": GIVEN, "output": output, "source": self.source}
            for name, output in self.given.items()
        }
        return {**given, self.only: own} if own else given

    def settings(self, flow: Flow) -> Mapping[str, Any]:
        """Return the non-default settings of a Vect of this part."""
        if self.only is not None:
            return {**flow.settings, "only": self.only}
        return {**flow.settings, "until": list(self.until)} if self.until else flow.settings


WHOLE: Final = Part()
"""The whole flow."""


def is_given(options: Mapping[str, Any]) -> bool:
    """Whether a step with these options does not run, and has a given output."""
    return options.get("kind") == GIVEN
