"""A release workflow of GitHub Actions: a draft, a build for each target, an upload with a token.

Run it:  python examples/from_elsewhere/github_release.py

The definition: .github/workflows/release.yml in BurntSushi/ripgrep on GitHub (commit 0645019).
Written anew, with five of its targets; the tools (`gh`, `cargo`, `strip`) are stubs.

| there | here |
|---|---|
| `on: push: tags` | a parameter, the tag |
| `outputs: version`, `needs` | the output of a step, and who takes it |
| `strategy: matrix: include:` with twelve steps | a flow for each entry of a list: `MapExecution` |
| `fail-fast: false` | always so: one bad entry harms no other |
| `if: matrix.qemu == ''` | a command that looks: exit code 99 skips a step |
| `secrets.GITHUB_TOKEN` | `flow.secret("GITHUB_TOKEN")`: `***` in whatever a step writes |
| `$GITHUB_ENV` | outputs, by reference |
| "Re-run failed jobs" | `vect.retry()`: only the bad entry, where it failed |
"""

import os
import tempfile
from pathlib import Path
from typing import Any

from oautom import BashExecution, Flow, MapExecution, OAutom, TriggerRule

TARGETS = [
    {"target": "x86_64-unknown-linux-musl", "strip": "x86_64-linux-musl-strip", "qemu": ""},
    {"target": "aarch64-unknown-linux-gnu", "strip": "aarch64-linux-gnu-strip", "qemu": "aarch64"},
    {"target": "s390x-unknown-linux-gnu", "strip": "s390x-linux-gnu-strip", "qemu": "s390x"},
    {"target": "aarch64-apple-darwin", "strip": "strip", "qemu": ""},
    {"target": "x86_64-pc-windows-msvc", "strip": "", "qemu": ""},
]

# Stands for the tools. The upload of one target fails once.
STUBS = """
gh() { echo "gh $* (with $GITHUB_TOKEN)" >&2; echo "$*" >>"$HOME_OF_ALL/github"; }
cargo() { mkdir -p "$TARGET"; echo "rg for $TARGET" >"$TARGET/rg"; }
strip_it() { echo "$1 $TARGET/rg"; }
flaky() {
    [ "$TARGET" != s390x-unknown-linux-gnu ] || [ -e "$HOME_OF_ALL/once" ] ||
        { touch "$HOME_OF_ALL/once"; echo "502 from the server" >&2; return 1; }
}
"""


def build_flow(app: OAutom, home: Path) -> Flow:
    """Declare what is done for one target."""
    of_one: dict[str, type] = {"version": str, "target": str, "strip": str, "qemu": str}
    flow = Flow("build-release", app, params=of_one, max_active_vects=None)
    env: dict[str, Any] = {key.upper(): flow.param(key) for key in of_one} | {
        "HOME_OF_ALL": str(home)
    }

    build = BashExecution(
        "build", flow, STUBS + "cargo build --profile release-lto", env, str(home)
    )
    strip = BashExecution(
        "strip",
        flow,
        STUBS + '[ -n "$STRIP" ] || { echo "nothing to strip"; exit 99; }; strip_it "$STRIP"',
        env,
        str(home),
    )
    archive = BashExecution(
        "archive",
        flow,
        'tar -czf "rg-$VERSION-$TARGET.tar.gz" "$TARGET" && echo "rg-$VERSION-$TARGET.tar.gz"',
        env,
        str(home),
        trigger_rule=TriggerRule.NONE_FAILED,
    )
    token = {"GITHUB_TOKEN": flow.secret("GITHUB_TOKEN"), "ARCHIVE": archive}
    upload = BashExecution(
        "upload",
        flow,
        STUBS + 'flaky; gh release upload "$VERSION" "$ARCHIVE"',
        env | token,
        str(home),
    )
    build >> strip >> archive >> upload
    return flow


def release_flow(app: OAutom, home: Path) -> Flow:
    """Declare the release."""
    flow = Flow("release", app, params={"tag": str, "targets": list[dict[str, str]]})
    env: dict[str, Any] = {"TAG": flow.param("tag"), "HOME_OF_ALL": str(home)}
    version = BashExecution(
        "version", flow, 'grep -qx "version = $TAG" manifest; echo "$TAG"', env, str(home)
    )
    create = BashExecution(
        "create release",
        flow,
        STUBS + 'gh release create "$VERSION" --draft',
        env | {"VERSION": version, "GITHUB_TOKEN": flow.secret("GITHUB_TOKEN")},
        str(home),
    )
    builds = MapExecution(
        "build",
        flow,
        build_flow(app, home),
        over=flow.param("targets"),
        kwargs={"version": version},
        label="{target}",
    )
    create >> builds
    return flow


os.environ["GITHUB_TOKEN"] = "ghp_0123456789abcdef"  # noqa: S105 - a stub
with tempfile.TemporaryDirectory() as name, OAutom(max_workers=2) as app:
    home = Path(name)
    (home / "manifest").write_text("version = 15.1.0\n")
    release = release_flow(app, home)
    vect = app.run(release, {"tag": "15.1.0", "targets": TARGETS})
    print(vect.state, "-", vect.steps["build"].error)
    vect.retry()
    print(vect.wait(), "-", vect.steps["create release"].log_text.strip())
    for child in app.vects("build-release"):
        strip, upload = child.steps["strip"], child.steps["upload"]
        print(f"{child.params['target']:<26} {strip.state:<8} {upload.log_text.strip()}")
    print(len((home / "github").read_text().splitlines()), "calls of GitHub")
