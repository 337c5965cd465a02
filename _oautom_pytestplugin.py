"""The pytest plugin: the fixtures `oautom_app` and `oautom_clock`, and the mark `oautom_objects`.

pytest loads it at each start, wherever oautom is installed: so nothing of oautom is imported here
before a fixture is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from oautom import OAutom
    from oautom.testing import SimulatedClock


_OBJECTS = "oautom_objects"


def pytest_configure(config: pytest.Config) -> None:
    """Make the mark known."""
    told = f"{_OBJECTS}: have oautom_app take any object as a value, as an app in memory does"
    config.addinivalue_line("markers", told)


@pytest.fixture
def oautom_clock() -> SimulatedClock:
    """A clock whose time passes only when somebody waits for it, and then at once."""
    from oautom.testing import SimulatedClock  # noqa: PLC0415 - see above

    return SimulatedClock()


@pytest.fixture
def oautom_app(oautom_clock: SimulatedClock, request: pytest.FixtureRequest) -> Iterator[OAutom]:
    """An app in memory whose steps run one by one, on `oautom_clock`; closed after the test.

    It keeps values as JSON has them, and refuses what a durable log refuses; the mark
    `oautom_objects` has it take any object.
    """
    from oautom import MemoryEventLog, OAutom  # noqa: PLC0415 - see above

    takes_objects = request.node.get_closest_marker(_OBJECTS) is not None
    log = MemoryEventLog(as_json=not takes_objects)
    with OAutom(executor="inline", clock=oautom_clock, log=log) as app:
        yield app
