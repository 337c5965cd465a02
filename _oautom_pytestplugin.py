"""The pytest plugin: the fixtures `oautom_app` and `oautom_clock`.

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


@pytest.fixture
def oautom_clock() -> SimulatedClock:
    """A clock whose time passes only when somebody waits for it, and then at once."""
    from oautom.testing import SimulatedClock  # noqa: PLC0415 - see above

    return SimulatedClock()


@pytest.fixture
def oautom_app(oautom_clock: SimulatedClock) -> Iterator[OAutom]:
    """An app in memory whose steps run one by one, on `oautom_clock`; closed after the test."""
    from oautom import OAutom  # noqa: PLC0415 - see above

    with OAutom(executor="inline", clock=oautom_clock) as app:
        yield app
