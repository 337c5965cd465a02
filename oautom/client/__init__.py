"""A run seen and steered from any process: `Client`, and what it shows.

Nothing here runs a flow or imports the code of one: the engine may be in any process, or in none.
"""

from oautom.client.client import Client
from oautom.client.compare import ABSENT, Difference
from oautom.client.engine import EngineInfo, FlowInfo, PlanInfo
from oautom.client.facts import Working
from oautom.client.follow import Follow
from oautom.client.forecast import Forecast, Past
from oautom.client.steering import Answer, Backfill
from oautom.client.timeline import Span
from oautom.client.views import StepView, VectView, Waiting


def picture_style() -> str:
    """Return the style sheet of all pictures, for a page that has pictures with `style=False`."""
    from oautom.pictures.style import STYLE  # noqa: PLC0415 - most programs draw nothing

    return STYLE


__all__ = [
    "ABSENT",
    "Answer",
    "Backfill",
    "Client",
    "Difference",
    "EngineInfo",
    "FlowInfo",
    "Follow",
    "Forecast",
    "Past",
    "PlanInfo",
    "Span",
    "StepView",
    "VectView",
    "Waiting",
    "Working",
    "picture_style",
]
