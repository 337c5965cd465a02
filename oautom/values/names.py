"""Names, texts and settings from people: checked, and made exact. Pure.

No argument is compared, hashed or shown unless its type is known.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any, Final, cast

from oautom.errors import FlowError, SettingError, shown
from oautom.values.json import at_heart, plain_count

TEXT_MAX: Final = 16_384
"""How many characters a text from a person may have."""
NAME_MAX: Final = TEXT_MAX
"""How many characters the name of a flow, step, Vect or plan may have."""
WORKERS_MAX: Final = 32_768
"""The largest `max_workers`: by default, a system has so many numbers for processes."""

_BLANKS: Final = " \t\n\r\f\v"
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")  # Unicode's category Cc


def check_name(what: str, name: object, *, flow: str | None = None) -> str:
    """Return the name of a flow, step or Vect as an exact `str`.

    Raises:
        FlowError: The name is no text, is blank, has control characters, is not valid Unicode, or
            is too long.
    """
    given, name = name, at_heart(name)
    problem = None
    if type(name) is not str:
        problem = "must be text"
    elif len(name) > NAME_MAX:
        problem = f"must have at most {NAME_MAX} characters"
    elif not name.strip(_BLANKS):
        problem = "must not be blank"
    elif "\0" in name:
        problem = "must not contain a NUL character"
    elif not is_unicode(name):
        problem = "must be valid Unicode, without lone surrogates"
    elif has_controls(name):
        problem = "must not contain control characters, such as line breaks"
    if problem:
        raise FlowError(f"{what} name {problem}, not {shown(given)}", flow=flow)
    return cast("str", name)


def plain_text(value: object, what: str, limit_chars: int = TEXT_MAX) -> str:
    """Return a text from a person as an exact `str`.

    Args:
        value: The argument.
        what: Its description, for the error: `reason of cancel()`.
        limit_chars: How many characters it may have.

    Raises:
        SettingError: The argument is no text, not valid Unicode, or too long.
    """
    text = at_heart(value)
    if type(text) is str and len(text) > limit_chars:
        raise SettingError(
            f"{what} has {len(text)} characters, but at most {limit_chars} are allowed; write it "
            "to a file, and give its path"
        )
    if type(text) is not str or not is_unicode(text):
        raise SettingError(f"{what} must be text, not {shown(value)}")
    return text


def one_of(given: object, known: Collection[str]) -> str | None:
    """Return a known name as an exact `str`; None if the argument is none of the known names.

    The argument may be anything: it is compared, hashed or shown only if it is text.
    """
    name = at_heart(given)
    return name if type(name) is str and name in known else None


def readable(value: Any) -> Any:
    """Return a text with escapes for half characters (surrogates), which JSON cannot store."""
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value


def has_controls(text: str) -> bool:
    """Whether a text has control characters; a mark of direction, as in Hebrew, is none."""
    return _CONTROL.search(text) is not None


def is_unicode(text: str) -> bool:
    """Whether a text can be written as UTF-8: it has no half characters."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_max_workers(max_workers: object) -> int | None:
    """Return a number of workers as an exact `int`; None stays None.

    Raises:
        SettingError: The number is neither None nor a positive int, or is above `WORKERS_MAX`.
    """
    if max_workers is None:
        return None
    if (count := plain_count(max_workers)) is None:
        raise SettingError(f"max_workers must be a positive int or None, not {shown(max_workers)}")
    if count > WORKERS_MAX:
        raise SettingError(f"max_workers may be at most {WORKERS_MAX}, not {shown(max_workers)}")
    return count


def has_members(given: object, *names: str) -> bool:
    """Whether an object has all members of these names; a class does not count as its instance."""
    return not isinstance(given, type) and all(hasattr(given, name) for name in names)
