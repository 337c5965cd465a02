"""How the states look: colours for light and dark, signs and borders that need no colour. Pure.

The colours are near those of Okabe and Ito, darkened or lightened until text on them is legible
(WCAG AA), so that they differ for nearly everybody; each state has a sign and its word, too.

Source: M. Okabe, K. Ito, "Color universal design", 2008.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple


class Look(NamedTuple):
    """How a state looks: line and fill in light and dark, the dashes of the border, and its sign.

    Attributes:
        light: The colour of border and sign on a light ground.
        light_fill: The ground of its box there.
        dark: As `light`, on a dark ground.
        dark_fill: As `light_fill`.
        dashes: The pattern of its border; empty for an unbroken one.
        sign: The path of its sign, in a square of 16 by 16.
    """

    light: str
    light_fill: str
    dark: str
    dark_fill: str
    dashes: str
    sign: str


LOOKS: Final = {
    "success": Look("#00694c", "#e6f6ef", "#4fd1a5", "#10302a", "", "M4 8.5l3 3 5.5-6.5"),
    "failed": Look("#b3261e", "#fdeceb", "#ff8a80", "#3d1a1c", "", "M4.5 4.5l7 7M11.5 4.5l-7 7"),
    "running": Look("#0a5fa8", "#e5f1fc", "#6cb6ff", "#12294a", "", "M6 4l6 4-6 4z"),
    "up_for_retry": Look(
        "#8a5a00", "#fdf3dc", "#f2b84b", "#362a10", "6 3", "M12.5 6.5A5 5 0 1 0 13 9M13 3v4h-4"
    ),
    "upstream_failed": Look(
        "#9a3f6f", "#fbeaf3", "#f0a0cb", "#381c2e", "2 3", "M3.5 8h5M8.5 4.5l3 3.5-3 3.5M13 4v8"
    ),
    "cancelled": Look("#5b4a8a", "#efecf8", "#b9a8ec", "#282242", "8 3 2 3", "M5 5h6v6h-6z"),
    "skipped": Look(
        "#57606a", "#f3f5f7", "#a3adb8", "#1d232b", "3 3", "M4 4.5l4 3.5-4 3.5M8.5 4.5l4 3.5-4 3.5"
    ),
    "pending": Look(
        "#656d76", "#ffffff", "#98a2ad", "#161b22", "", "M8 2.5a5.5 5.5 0 1 0 .1 0M8 5.2v3l2.2 1.6"
    ),
}


def word(state: str) -> str:
    """Return a state as people read it."""
    return state.replace("_", " ")


def sign(state: str | None, x: float, y: float) -> str:
    """Return the sign of a state as SVG; nothing for a state that has none."""
    look = LOOKS.get(state or "")
    if look is None:
        return ""
    return f'<path class="oa-sign" transform="translate({x:g} {y:g})" d="{look.sign}"/>'


_LIGHT: Final = {
    "ground": "#ffffff",
    "ink": "#1f2328",
    "soft": "#59636e",
    "line": "#848d97",
    "edge": "#afb8c1",
    "fill": "#f6f8fa",
    **{state: look.light for state, look in LOOKS.items()},
    **{f"{state}-fill": look.light_fill for state, look in LOOKS.items()},
}
_DARK: Final = {
    "ground": "#0d1117",
    "ink": "#e6edf3",
    "soft": "#9da7b3",
    "line": "#6e7681",
    "edge": "#4b535d",
    "fill": "#161b22",
    **{state: look.dark for state, look in LOOKS.items()},
    **{f"{state}-fill": look.dark_fill for state, look in LOOKS.items()},
}


_RULES: Final = """
.oa-ground{fill:@ground}
.oa text{fill:@ink;unicode-bidi:plaintext}
.oa .oa-name{font-weight:600}
.oa .oa-more{font-size:11px;fill:@soft}
.oa-line{fill:none;stroke:@line;stroke-width:1.4}
.oa-arrow{fill:@line}
.oa-box,.oa-under{fill:@fill;stroke:@edge;stroke-width:1.5}
.oa-sign{fill:none;stroke:@soft;stroke-width:2;stroke-linecap:round;stroke-linejoin:round}
.oa-tick{fill:none;stroke:@edge;stroke-width:.6}
.oa-bar{fill:@line;stroke:@line}
.oa-cross{fill:none;stroke:@ground;stroke-width:1.8;stroke-linecap:round}
.oa-waiting{fill:none;stroke:@line;stroke-width:2.5}
.oa-delay{fill:none;stroke:@up_for_retry;stroke-width:4;stroke-dasharray:.1 6;stroke-linecap:round}
.oa-wait{fill:none;stroke:@running;stroke-width:12;stroke-dasharray:2 3}
"""
_OF_A_STATE: Final = """
.oa [data-state=#] .oa-box,.oa [data-state=#] .oa-under{fill:@#-fill;stroke:@#}
.oa [data-state=#] .oa-sign{stroke:@#}
.oa-share[data-state=#]{fill:@#}
.oa .oa-bar[data-state=#]{fill:@#;stroke:@#}
"""
_EXCEPTIONS: Final = """
.oa [data-state=failed] .oa-box{stroke-width:2.5}
.oa .oa-bar[data-state=running]{fill:@running-fill}
.oa a{cursor:pointer}
.oa a:focus{outline:none}
.oa a:hover .oa-box,.oa a:focus-visible .oa-box{stroke:@ink;stroke-width:3}
.oa a:hover .oa-row,.oa a:focus-visible .oa-row{text-decoration:underline}
"""


def _style() -> str:
    parts = [
        f".oa{{{_properties(_LIGHT)};font:13px system-ui,-apple-system,'Segoe UI',sans-serif}}",
        f"@media (prefers-color-scheme:dark){{.oa{{{_properties(_DARK)}}}}}",
        _RULES,
        *(_OF_A_STATE.replace("#", state) for state in LOOKS),
        *(
            f".oa [data-state={state}] .oa-box{{stroke-dasharray:{look.dashes}}}"
            for state, look in LOOKS.items()
            if look.dashes
        ),
        _EXCEPTIONS,
    ]
    # Each colour once for viewers that know no custom properties, and once for all others.
    text = re.sub(
        r"(fill|stroke):@([\w-]+)",
        lambda found: f"{found[1]}:{_LIGHT[found[2]]};{found[1]}:var(--oa-{found[2]})",
        "\n".join(parts),
    )
    return re.sub(r"\n+", "\n", text).strip()


def _properties(colours: dict[str, str]) -> str:
    return ";".join(f"--oa-{name}:{colour}" for name, colour in colours.items())


STYLE: Final = _style()
"""The style sheet of all pictures: each name in it begins with `oa`."""
