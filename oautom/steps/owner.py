"""`Owner`: the flow of a step, as far as the step needs to know it.

Steps are below flows, so no step imports `Flow`. That `Flow` fits is shown by mypy, wherever a flow
is given to a step. A step is `Any` here: this module is below `Execution`, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from oautom.steps.options import RetryPolicy


class Typed(Protocol):
    """A parameter of a flow: it has a type."""

    annotation: Any


class Flows(Protocol):
    """The flows of an app, by name."""

    def flow(self, name: str, /) -> Owner:
        """Return the flow of this name, or raise `UnknownFlowError`."""


class Owner(Protocol):
    """The flow of a step, as far as the step needs it."""

    name: str
    retry: RetryPolicy | None
    timeout: float | None
    max_async: int
    strict: bool
    capture: bool
    steps: Mapping[str, Any]

    @property
    def params(self) -> Mapping[str, Typed]:
        """Its parameters, by name."""

    @property
    def app(self) -> Flows:
        """The app, in which other flows are found."""

    def add(self, step: Any, /) -> None:
        """Add a step."""

    def add_edges(self, step: Any, upstreams: Iterable[Any], /) -> None:
        """Make a step wait for others."""
