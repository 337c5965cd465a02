"""The templates: Jinja2, which escapes whatever is not said to be markup."""

from __future__ import annotations

from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from oautom.pictures.style import STYLE
from oautom.web import texts

_HERE: Final = Path(__file__).parent

STATIC: Final = {
    "page.css": ((_HERE / "static" / "page.css").read_bytes(), "text/css; charset=utf-8"),
    "page.js": ((_HERE / "static" / "page.js").read_bytes(), "text/javascript; charset=utf-8"),
    "pictures.css": (STYLE.encode(), "text/css; charset=utf-8"),
    "icon.svg": ((_HERE / "static" / "icon.svg").read_bytes(), "image/svg+xml"),
}
"""What the page has besides its views: the bytes and their type, by name."""

VERSION: Final = sha256(b"".join(content for content, _ in STATIC.values())).hexdigest()[:12]


# All text in these is escaped or ours; `Markup.format` would say so by itself, and takes 5 times as
# long, which a page of 9,000 steps shows.


def bdi(value: object, most: int = texts.NAME_CHARACTERS) -> Markup:
    """Return a text of a log as markup: whatever its direction is, what follows keeps its own."""
    whole = texts.clean(value)
    shown = texts.cut(whole, most)
    if shown == whole:
        return Markup(f"<bdi>{escape(shown)}</bdi>")  # noqa: S704 - escaped
    title = escape(texts.plain_line(whole, 2_000))
    return Markup(f'<bdi title="{title}">{escape(shown)}</bdi>')  # noqa: S704 - escaped


def badge(state: str) -> Markup:
    """Return a state as sign, word and colour."""
    name = state if state in texts.GLYPHS else "pending"
    sign = f'<span class="sign" aria-hidden="true">{texts.GLYPHS[name]}</span>'
    shown = f'<span class="state s-{name}">{sign}{escape(texts.word(state))}</span>'
    return Markup(shown)  # noqa: S704 - escaped


def instant(given: datetime | None, now: datetime) -> Markup:
    """Return an instant as the clock here has it, and exactly for machines."""
    if given is None:
        return Markup("")
    exact = given.astimezone().isoformat(sep=" ", timespec="milliseconds")
    clock = texts.clock(given, now)
    shown = f'<time datetime="{given.isoformat()}" title="{exact}">{clock}</time>'
    return Markup(shown)  # noqa: S704 - made of numbers


def took(begin: datetime | None, end: datetime | None, now: datetime) -> str:
    """Return how long something took, or has taken until now."""
    return "" if begin is None else texts.duration((end or now) - begin)


def _made() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters |= {
        "bdi": bdi,
        "slug": lambda name: sha256(name.encode()).hexdigest()[:8],
        "badge": badge,
        "line": texts.plain_line,
        "in_one_line": texts.in_one_line,
        "word": texts.word,
        "in_short": texts.in_short,
        "in_json": texts.in_json,
        "written": texts.written,
        "clean": texts.clean,
        "duration": texts.duration,
    }
    environment.globals |= {
        "instant": instant,
        "took": took,
        "version": VERSION,
        "limit": texts.VALUE_CHARACTERS,
        "glyphs": texts.GLYPHS,
        "day": timedelta(days=1),
    }
    return environment


_environment: Final = _made()


def compile_all() -> None:
    """Compile the templates, so that nobody waits for that who looks first."""
    for name in _environment.list_templates():
        _environment.get_template(name)


def render(template: str, **shown: Any) -> str:
    """Return a template with what is shown in it."""
    return _environment.get_template(template).render(**shown)
