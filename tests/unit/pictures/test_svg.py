"""Texts of anybody, as SVG."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oautom.pictures.svg import attribute, bounded, content, label, number, width_of

ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()), max_size=30)


@given(ANY_TEXT)
def test_any_text_is_well_formed_as_content_and_as_attribute(text):
    element = ET.fromstring(f"<a b={attribute(text)}>{content(text)}</a>")
    assert (element.text or "") == element.get("b")
    element = ET.fromstring(f"<a b={attribute(label(text, 9))}/>")
    assert element.get("b") is not None


def test_plain_text_stays_what_it_is():
    text = "Früh & spät: \"<a href='x'>\" = 5 > 3, 名前 שם 🎉"
    element = ET.fromstring(f"<a b={attribute(text)}>{content(text)}</a>")
    assert (element.text, element.get("b")) == (text, text)


@pytest.mark.parametrize("bad", ["\0", "\x1b", "\x9f", "\ud800", "\uffff", "\u202e", "\u2066"])
def test_what_xml_forbids_and_what_turns_text_around_is_marked(bad):
    assert content(f"a{bad}b") == "a\ufffdb"


def test_line_breaks_are_blanks():
    assert content("a\r\nb\tc\u2028d") == "a b c d"


@given(ANY_TEXT, st.integers(4, 40))
def test_a_label_is_never_wider_than_told(text, most):
    assert width_of(label(text, most)) <= most
    if width_of(text) <= most:
        assert label(text, most) == text


def test_a_label_has_both_ends_of_a_name():
    assert label("load_the_sales_of_the_day_into_the_warehouse", 20) == "load_the…e_warehouse"
    assert label("12 failed, 30 running, 7 skipped", 14, keep=1) == "12 failed, 30…"


def test_a_wide_letter_counts_twice_and_a_mark_nothing():
    assert width_of("名前") > width_of("nn") * 1.5
    assert width_of("e\u0301") == width_of("e")


def test_of_a_megabyte_only_the_ends_are_looked_at():
    assert len(label("x" * 1_000_000, 20)) < 25
    assert bounded("x" * 1_000_000, 10) == "xxxxxxxxx…"
    assert len(content("x" * 1_000_000)) == len(attribute("x" * 1_000_000)) - 2 == 1000
    assert len(attribute("x" * 1_000_000, None)) == 1_000_002


def test_numbers_are_short():
    assert [number(each) for each in (0.0, 12.0, 12.34, -3.06)] == ["0", "12", "12.3", "-3.1"]
