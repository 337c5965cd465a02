"""`Pool`: a limit on how many steps run at once, across flows."""

from __future__ import annotations

import msgspec

from oautom.errors import SettingError, shown
from oautom.values.json import at_heart, plain_count
from oautom.values.names import has_controls, plain_text


class Pool(msgspec.Struct, frozen=True):
    """At most `slots` of the steps that name it run at once in an app, whatever flow they are of.

    A step that waits for a slot lets others by. Steps that wait for a time or a person take none.

    Args:
        name: Its name; pools of one name are one pool.
        slots: How many run at once, from 1.

    Raises:
        SettingError: An argument cannot be used.
    """

    name: str
    slots: int

    def __post_init__(self) -> None:
        """Refuse what cannot be used."""
        name = at_heart(self.name)
        if type(name) is not str or not name.strip():
            raise SettingError(f"Pool: name must be text, and not blank, not {shown(self.name)}")
        if has_controls(name):
            raise SettingError(
                f"Pool: name must not hold control characters, not {shown(self.name)}"
            )
        msgspec.structs.force_setattr(self, "name", plain_text(name, "Pool: name"))
        if (slots := plain_count(self.slots)) is None:
            raise SettingError(
                f"Pool '{self.name}': slots must be an int from 1, not {shown(self.slots)}"
            )
        msgspec.structs.force_setattr(self, "slots", slots)
