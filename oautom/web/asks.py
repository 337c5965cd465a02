"""What a page has an engine do: each button is a form, and comes to one call of the `Client`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from oautom.client import Answer, Client
from oautom.errors import OAutomError, SettingError, shown
from oautom.web import forms
from oautom.web.links import Links

SECONDS: Final = 10.0
"""How long a page waits for the answer of an engine."""

Form = Mapping[str, str]


class NotEnteredError(OAutomError):
    """Someone wants to steer who has not shown the token."""


class Confirmed(NamedTuple):
    """What is asked before something is done that cannot be taken back.

    Attributes:
        question: The question.
        button: What the button says.
        has_reason: Whether a reason can be given.
    """

    question: str
    button: str
    has_reason: bool


CONFIRMED: Final[Mapping[str, Confirmed]] = {
    "cancel": Confirmed("End this run? What runs is stopped.", "Cancel the run", True),
    "retry": Confirmed("Run again what has failed or was cancelled?", "Retry the run", False),
    "pause": Confirmed("Start nothing more of this run for now?", "Pause the run", False),
    "resume": Confirmed("Go on with this run?", "Resume the run", False),
}
LISTED: Final = ", ".join(CONFIRMED)


def carry_out(client: Client, form: Form, links: Links) -> str:
    """Do what a form asks for, and return the address of what to show then.

    Raises:
        OAutomError: It cannot be done, or the engine refuses it.
    """
    action = form.get("action", "")
    if action == "start":
        return links.run(_start(client, form))
    done = _ACTIONS.get(action)
    if done is None:
        raise SettingError(f"action must be some of {', '.join(_ACTIONS)}, not {shown(action)}")
    done(client, form)
    return "inbox" if form.get("from") == "inbox" else links.run(form.get("id", ""))


def _start(client: Client, form: Form) -> str:
    engine, flow = client.engine, form.get("flow", "")
    known = None if engine is None else engine.flows.get(flow)
    fields = [] if known is None else forms.fields_of(known.params)
    params: dict[str, Any] = forms.values_of(fields, form)
    vect = form.get("id", "").strip() or form.get("new_id", "").strip() or None
    return client.start(flow, params or None, vect_id=vect, timeout=SECONDS)


def _approve(client: Client, form: Form) -> Answer:
    data, given = None, form.get("data", "").strip()
    if given:
        data = forms.from_json(given, "the output")
    by = _by(form)
    return client.approve(form.get("id", ""), form.get("step", ""), by, data, timeout=SECONDS)


def _reject(client: Client, form: Form) -> Answer:
    reason, by = form.get("reason", ""), _by(form)
    return client.reject(form.get("id", ""), form.get("step", ""), by, reason, timeout=SECONDS)


def _by(form: Form) -> str:
    by = form.get("by", "").strip()
    if not by:
        raise SettingError("say who decides: your name is missing")
    return by


def _cancel(client: Client, form: Form) -> Answer:
    return client.cancel(form.get("id", ""), form.get("reason", ""), timeout=SECONDS)


_ACTIONS: Final[Mapping[str, Callable[[Client, Form], Answer]]] = {
    "approve": _approve,
    "reject": _reject,
    "cancel": _cancel,
    "pause": lambda client, form: client.pause(form.get("id", ""), timeout=SECONDS),
    "resume": lambda client, form: client.resume(form.get("id", ""), timeout=SECONDS),
    "retry": lambda client, form: client.retry(form.get("id", ""), timeout=SECONDS),
}
