"""What people give for a picture."""

from __future__ import annotations

from typing import Any

import pytest

from oautom import SettingError
from oautom.pictures.given import Links, flag_of, limit_of, width_of


@pytest.mark.parametrize("limit", [0, -1, True, 1.5, "80", [80], object()])
def test_a_limit_must_be_a_positive_int(limit):
    with pytest.raises(SettingError, match="must be a positive int, or None for one for each step"):
        limit_of(limit)


@pytest.mark.parametrize("style", [1, 0, None, "yes"])
def test_whether_there_is_a_style_sheet_must_be_true_or_false(style):
    with pytest.raises(SettingError, match="style of a picture must be True or False"):
        flag_of(style)


def test_what_is_right_stays_what_it_is():
    assert (limit_of(None), limit_of(3), flag_of(style=False), width_of(400, 320)) == (
        None,
        3,
        False,
        400,
    )


@pytest.mark.parametrize("href", ["/step", 5, {"a": "/a"}, object()])
def test_links_come_from_a_function(href: Any):
    with pytest.raises(SettingError, match="href must be a function"):
        Links(href)


async def later(step: str) -> str:
    return step


@pytest.mark.parametrize("href", [len, later, list, lambda _: b"/a"])
def test_a_link_must_be_text(href: Any):
    with pytest.raises(SettingError, match="href must return the link of step 'a' as text"):
        Links(href).to("a")


def quits(step: str) -> str:
    raise SystemExit(step)


@pytest.mark.parametrize("href", [quits, lambda _: 1 / 0, lambda: "/"])
def test_a_function_that_raises_is_named(href: Any):
    with pytest.raises(SettingError, match="href of step 'a' has raised"):
        Links(href).to("a")


def test_a_step_may_be_without_a_link():
    assert Links(None).to("a") is None
    assert not Links(None).are_there
    assert Links(lambda _: None).to("a") is None
    assert Links(lambda step: f"/{step}").to("a") == "/a"
