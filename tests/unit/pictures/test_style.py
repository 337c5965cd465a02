"""The looks of the states: legible in light and dark, and by who sees no colour."""

from __future__ import annotations

import pytest

from oautom.machine.tables import STEP_TABLE
from oautom.pictures.style import _DARK, _LIGHT, LOOKS, STYLE, sign


def luminance(colour: str) -> float:
    """Return how bright a colour is (WCAG 2.2)."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


def test_each_state_of_a_step_has_a_look():
    assert LOOKS.keys() == {state for row in STEP_TABLE for state in (row.source, row.dest)}


@pytest.mark.parametrize("colours", [_LIGHT, _DARK], ids=["light", "dark"])
def test_all_texts_and_signs_are_legible(colours):
    for ground in ("ground", "fill", *(f"{state}-fill" for state in LOOKS)):
        assert contrast(colours["ink"], colours[ground]) >= 7, ground
        assert contrast(colours["soft"], colours[ground]) >= 4.5, ground
    for state in LOOKS:
        assert contrast(colours[state], colours[f"{state}-fill"]) >= 4.5, state
        assert contrast(colours[state], colours["ground"]) >= 4.5, state
    assert contrast(colours["line"], colours["ground"]) >= 3


def test_no_two_states_look_alike_without_colour():
    assert len({look.sign for look in LOOKS.values()}) == len(LOOKS)
    assert [state for state, look in LOOKS.items() if not sign(state, 0, 0)] == []
    assert sign(None, 0, 0) == sign("?", 0, 0) == ""


def test_all_colours_are_defined_for_light_and_dark():
    assert _LIGHT.keys() == _DARK.keys()
    assert "@media (prefers-color-scheme:dark)" in STYLE
    for name in _LIGHT:
        assert STYLE.count(f"--oa-{name}:") == 2


def test_the_style_sheet_touches_nothing_else_of_a_page():
    without_media = STYLE.replace("@media (prefers-color-scheme:dark){", "").replace("}}", "}")
    selectors = [rule.partition("{")[0] for rule in without_media.split("}") if rule.strip()]
    assert len(selectors) > 30
    for selector in ",".join(selectors).split(","):
        assert selector.strip().startswith(".oa"), selector
    assert "url(" not in STYLE
    assert "@import" not in STYLE
    assert "<" not in STYLE
