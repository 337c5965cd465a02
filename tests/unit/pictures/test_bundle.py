"""What a notebook is given."""

from collections.abc import Callable

import pytest

from oautom.pictures.bundle import bundle

ALL = {"text/plain": "text", "image/svg+xml": "<svg/>", "text/vnd.mermaid": "flowchart LR\n"}


def made(include=None, exclude=None, mermaid: Callable[[], str] = lambda: "flowchart LR\n"):
    return bundle("text", lambda: "<svg/>", mermaid, include, exclude)


@pytest.mark.parametrize(
    ("include", "exclude", "kinds"),
    [
        (None, None, list(ALL)),
        ([], None, []),
        (["image/svg+xml", "text/html"], None, ["image/svg+xml"]),
        (None, ["image/svg+xml"], ["text/plain", "text/vnd.mermaid"]),
        (["text/plain", "text/vnd.mermaid"], {"text/plain"}, ["text/vnd.mermaid"]),
    ],
)
def test_only_what_is_wanted_is_there(include, exclude, kinds):
    assert made(include, exclude) == {kind: ALL[kind] for kind in kinds}


def test_what_is_not_wanted_is_not_made():
    def never() -> str:
        raise AssertionError

    assert bundle("text", never, never, ["text/plain"], None) == {"text/plain": "text"}


@pytest.mark.parametrize("mermaid", ["x" * 50_001, "n0 --> n1\n" * 501])
def test_what_is_too_much_for_mermaid_is_left_out(mermaid):
    assert list(made(mermaid=lambda: mermaid)) == ["text/plain", "image/svg+xml"]
