"""The arguments of people for a picture: checked, and made exact. Pure."""

from __future__ import annotations

from collections.abc import Callable
from types import CoroutineType

from oautom.errors import SettingError, shown
from oautom.values.json import at_heart, plain_count
from oautom.values.text import error_of

Href = Callable[[str], str | None]


def limit_of(limit: object) -> int | None:
    """Return how many boxes or rows there may be; None for one for each step.

    Raises:
        SettingError: The argument is neither None nor a positive int.
    """
    if limit is None:
        return None
    if (count := plain_count(limit)) is None:
        raise SettingError(
            "limit, of the boxes or rows of a picture, must be a positive int, or None for one "
            f"for each step, not {shown(limit)}"
        )
    return count


def width_of(width: object, least: int) -> int:
    """Return the width of a picture.

    Raises:
        SettingError: The argument is no int, or below `least`.
    """
    found = plain_count(width)
    if found is None or found < least:
        raise SettingError(
            f"width of a timeline must be an int of at least {least}, not {shown(width)}"
        )
    return found


def flag_of(style: object) -> bool:
    """Return whether the style sheet is in a picture.

    Raises:
        SettingError: The argument is neither True nor False.
    """
    if type(style) is not bool:
        raise SettingError(f"style of a picture must be True or False, not {shown(style)}")
    return style


class Links:
    """The links of a picture.

    Attributes:
        are_there: Whether boxes may have any.

    Raises:
        SettingError: `href` is neither None nor a function.
    """

    def __init__(self, href: Href | None) -> None:
        if href is not None and not callable(href):
            raise SettingError(
                "href must be a function that returns the link of a step by its name, or None, "
                f"not {shown(href)}"
            )
        self.are_there = href is not None
        self._href = href

    def to(self, step: str) -> str | None:
        """Return the link of a step, or None.

        Raises:
            SettingError: `href` has raised, or has returned something else.
        """
        if self._href is None:
            return None
        try:
            found: object = self._href(step)
        except (Exception, SystemExit) as error:
            raise SettingError(
                f"href of step {shown(step)} has raised {error_of(error)}"
            ) from error
        text = at_heart(found)
        if type(text) is str:
            return text
        if type(found) is CoroutineType:
            found.close()
        if found is None:
            return None
        raise SettingError(
            f"href must return the link of step {shown(step)} as text, or None, not {shown(found)}"
        )
