"""A run seen and steered from any process: `Client`, and what it shows.

Nothing here runs a flow or imports the code of one: the engine may be in any process, or in none.
"""

from oautom.client.client import Client
from oautom.client.engine import EngineInfo, FlowInfo, PlanInfo
from oautom.client.follow import Follow
from oautom.client.steering import Answer
from oautom.client.timeline import Span
from oautom.client.views import StepView, VectView, Waiting

__all__ = [
    "Answer",
    "Client",
    "EngineInfo",
    "FlowInfo",
    "Follow",
    "PlanInfo",
    "Span",
    "StepView",
    "VectView",
    "Waiting",
]
