"""`BashExecution`: a step that runs a Bash command in a process group of its own."""

from __future__ import annotations

import errno
import os
import re
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, Unpack, get_args

from oautom.errors import NotJsonError, SettingError, shown
from oautom.events.texts import LogBuffer
from oautom.processes.child import EndError
from oautom.processes.group import signal_name
from oautom.processes.leftovers import environment
from oautom.processes.process import ProcessGroup
from oautom.steps.arguments import path_of, resolved, uses_in, wired
from oautom.steps.context import Context
from oautom.steps.execution import Execution, Used
from oautom.steps.options import StepOptions
from oautom.steps.owner import Owner
from oautom.steps.work import FactError, Skip, StepError
from oautom.values.annotations import UNKNOWN
from oautom.values.convert import plain_of
from oautom.values.json import at_heart, from_json, plain_count, plain_seconds, to_json
from oautom.values.names import one_of
from oautom.values.references import Reference, SecretReference

Output = Literal["last_line", "text", "json"]
Where = Literal["here", "worker"]
Env = str | Reference | Execution
_LAST_LINES_SHOWN = 5
SKIP_EXIT_CODE: Final = 99
_EXIT_CODE_MAX = 255
_SAID_BYTES_MAX = 2**16
ARGUMENT_BYTES_MAX: Final = 2**17
"""The limit of Linux for one argument of a program, including the NUL at its end."""
_BROKEN_PIPE_CODE: Final = 128 + signal.SIGPIPE
_BROKEN_PIPE: Final = (
    ", since SIGPIPE has ended a command in a pipe: the one that reads from it ended first, as in "
    "`yes | head -1`; let that one read to the end, or turn pipefail off (strict=False)"
)
ITEM: Final = "ITEM"
"""The variable with the item of a map."""
VARIABLE: Final = re.compile("[A-Za-z_][A-Za-z0-9_]*")


class BashExecution(Execution):
    """A step that runs a Bash command; the step succeeds when its exit code is 0.

    It runs as in the steps of a CI, `bash -eo pipefail -c command`: it ends with the first command
    in it that fails, and a pipe fails if one of its commands does. With `strict=False` it runs as
    `bash -c command`, where the last command alone counts.

    The process leads a group of its own. When the step is cancelled, the whole group gets SIGTERM
    and, after `grace_period`, SIGKILL. When the command has ended, processes that it left in the
    background are ended as well. Standard input is empty. Beside `env`, the command finds
    `OAUTOM_FLOW`, `OAUTOM_VECT`, `OAUTOM_STEP` and `OAUTOM_ATTEMPT` in its environment, and with a
    durable log `OAUTOM_LOG` and `OAUTOM_ENGINE` (and `OAUTOM_OUTER` if a step runs the program
    itself): by these a recovery finds and ends the processes that a dead program has left.

    Args:
        name: Name of the step, unique in its flow.
        flow: The flow that it belongs to.
        command: The text that Bash runs. Give it values by `env`, never by pasting them into the
            text.
        env: Variables added to the environment of this program: texts, outputs of other steps,
            parameters of the flow and secrets: `a.output`, `flow.param('day')`,
            `flow.secret('API_KEY')`, or a step `a`, which stands for its output. A text is passed
            on as it is; every other value as JSON.
        cwd: Working directory: text, a `Path`, or a reference to one, as `a.output` and
            `flow.param('folder')`. Default: that of this program.
        output: The part of standard output that becomes the output of the step: its last line that
            is not blank (`'last_line'`; None if there is none), all of it as text (`'text'`), or
            all of it parsed as JSON (`'json'`). Default: `'last_line'`.
        skip_exit_code: The exit code with which the command skips its step, with its last line as
            the reason; None for no such code. Default: 99.
        strict: Whether it ends with the first failure in it. Default: that of its flow.
        grace_period: Seconds that a cancelled command has between SIGTERM and SIGKILL.
        place: Where it runs: as a child of this program (`'here'`), or where the executor runs
            functions (`'worker'`), with that process's environment and working directory. It is
            ended if that process dies. Default: `'here'`.
        options: As of every `Execution`; `log_limit_bytes` also applies to the output.

    Raises:
        FlowError: An argument cannot be used.
    """

    takes_secrets = True
    runs_here = True  # it is a process already; on a worker it would take that as well

    def __init__(  # the signature that users know
        self,
        name: str,
        flow: Owner,
        command: str,
        env: Mapping[str, Env] | None = None,
        cwd: str | os.PathLike[str] | Reference | Execution | None = None,
        output: Output = "last_line",
        skip_exit_code: int | None = SKIP_EXIT_CODE,
        *,
        strict: bool | None = None,
        grace_period: float = 3.0,
        place: Where | None = None,
        **options: Unpack[StepOptions],
    ) -> None:
        self._check_command(flow, name, command)
        if place is not None:
            self.runs_here = self._place_of(flow, name, place) == "here"
        self._check_settings(flow, name, output, grace_period, skip_exit_code)
        cwd = wired(flow, name, cwd)
        if cwd is not None and not isinstance(cwd, str | os.PathLike | Reference):
            raise self.wrong(flow, name, f"cwd must be a path, not {shown(cwd)}")
        if strict is not None and type(strict) is not bool:
            raise self.wrong(flow, name, f"strict must be True or False, not {shown(strict)}")
        if env is not None and not isinstance(env, Mapping):
            raise self.wrong(flow, name, f"env must be a mapping, not {shown(env)}")
        self.command: str = at_heart(command)
        given = {at_heart(key): at_heart(value) for key, value in (env or {}).items()}
        self.env: dict[str, Any] = wired(flow, name, given, may_be_secret=True)
        self._is_wired = any(isinstance(value, Reference) for value in self.env.values())
        self._check_env(flow, name)
        self.cwd: str | os.PathLike[str] | Reference | None = at_heart(cwd)
        self.output_form: str = at_heart(output)
        self.skip_exit_code = None if skip_exit_code is None else plain_count(skip_exit_code)
        self.grace_period = plain_seconds(grace_period) or 0
        self.strict = self.strict if strict is None else strict
        if self.strict is None:
            self.strict = getattr(flow, "strict", None)  # anything but a flow is refused below
        super().__init__(name, flow, **options)
        if self._is_wired or isinstance(self.cwd, Reference):
            in_env = [Used(("env", *used.place), used.reference) for used in uses_in(self.env)]
            self.follow([*in_env, *uses_in({"cwd": self.cwd})])

    def options(self) -> Mapping[str, Any]:
        """Return the non-default options, with those of its command."""
        given = super().options()
        if self.skip_exit_code != SKIP_EXIT_CODE:
            given = {**given, "skip_exit_code": self.skip_exit_code}
        return {**given, "strict": False} if self.strict is False else given

    def wanted(self, place: Sequence[str | int]) -> Any:
        """Return the types that a path may have; a variable accepts any value."""
        return str | Path if place[0] == "cwd" else UNKNOWN

    def _place_of(self, flow: Owner, name: str, place: object) -> str:
        if (known := one_of(place, get_args(Where))) is None:
            raise self.wrong(flow, name, f"place must be 'here' or 'worker', not {shown(place)}")
        return known

    def _check_command(self, flow: Owner, name: str, command: str) -> None:
        if isinstance(command, Reference | Execution) or _pastes_a_step(command, flow):
            is_secret = isinstance(command, SecretReference)
            what = "a secret" if is_secret else "the output of a step"
            given = repr(command) if is_secret else "step.output"
            raise self.wrong(
                flow,
                name,
                f"{what} is never part of a command, where Bash would run it; "
                f"use env={{'NAME': {given}}} and \"$NAME\"",
            )
        if not _is_passable(command) or not command.strip():
            raise self.wrong(
                flow, name, f"command must be text that Bash can run, not {shown(command)}"
            )

    def _check_settings(
        self, flow: Owner, name: str, output: str, grace_period: float, skip_exit_code: int | None
    ) -> None:
        if one_of(output, get_args(Output)) is None:
            known = ", ".join(repr(each) for each in get_args(Output))
            raise self.wrong(flow, name, f"output must be one of {known}, not {shown(output)}")
        if plain_seconds(grace_period) is None:
            raise self.wrong(
                flow, name, f"grace_period must be seconds, from 0, not {shown(grace_period)}"
            )
        code = plain_count(skip_exit_code)
        if skip_exit_code is not None and (code is None or code > _EXIT_CODE_MAX):
            given = shown(skip_exit_code)
            raise self.wrong(
                flow, name, f"skip_exit_code must be from 1 to 255 or None, not {given}"
            )

    def _check_env(self, flow: Owner, name: str) -> None:
        for key, value in self.env.items():
            if type(key) is not str or not VARIABLE.fullmatch(key):
                raise self.wrong(
                    flow,
                    name,
                    f"env has {shown(key)}, which cannot name a variable",
                )
            if not isinstance(value, Reference) and not _is_passable(value):
                raise self.wrong(
                    flow,
                    name,
                    f"env[{shown(key)}] must be text without NUL, not {shown(value)}; use str()",
                )
            text = "" if isinstance(value, Reference) else value
            if (size_bytes := len(os.fsencode(f"{key}={text}")) + 1) > ARGUMENT_BYTES_MAX:
                raise self.wrong(
                    flow,
                    name,
                    f"env[{shown(key)}] has {size_bytes} bytes, but the system allows fewer than "
                    f"{ARGUMENT_BYTES_MAX}; write the value to a file, and give its path",
                )

    @property
    def output_type(self) -> Any:
        """Text, or `typing.Any` for JSON."""
        return {"last_line": str | None, "text": str}.get(self.output_form, UNKNOWN)

    def _env(self, context: Context) -> dict[str, str]:
        """Return the variables, with values in place of references.

        Raises:
            StepError: A value does not exist, or cannot be the value of a variable.
        """
        if not self._is_wired:
            return self.env
        env = resolved(self.env, context)
        return {
            key: env[key] if env[key] is value else as_text(key, env[key])
            for key, value in self.env.items()
        }

    def run(self, context: Context) -> Any:
        """Run the command to its end and return its output.

        Raises:
            StepError: The command exited with another code than 0, or was ended by a signal; its
                output is not JSON, but should be; or the value of a variable, or of its folder,
                cannot be used.
        """
        cwd = self._folder(context)
        said = context.new_buffer(_SAID_BYTES_MAX)
        # One byte more: for the newline before a last line that just fits.
        stdout = LogBuffer(self.log_limit_bytes + 1)

        def tell(chunk: bytes) -> None:
            context.buffer.write(chunk)
            said.write(chunk)

        def on_output(chunk: bytes) -> None:
            on_error(chunk, "stdout")
            stdout.write(chunk)  # it may contain a secret: then the step fails, as an output does

        def on_error(chunk: bytes, source: str = "stderr") -> None:
            if context.secrets is None:
                tell(chunk)
            else:
                context.secrets.pass_on(source, chunk, tell)

        group = ProcessGroup(
            [*self._bash(context), self.command],
            env=environment({**self._env(context), **context.environment}),
            cwd=cwd,
            grace_period=self.grace_period,
            on_output=on_output,
            on_error=on_error,
            ends_with_us=not self.runs_here and context.is_elsewhere,
        )
        if not context.on_cancel(group.cancel):
            raise StepError("the step was cancelled before its command began")
        try:
            returncode = group.run()
        except EndError as error:
            raise StepError(str(error)) from error
        except (OSError, RuntimeError) as error:
            raise StepError(self._why_not_begun(error, cwd)) from error
        context.end_text()
        said.finish()
        if returncode and returncode == self.skip_exit_code:
            last_line = _lines(said.text())[-1:]
            raise Skip(last_line[0] if last_line else f"the command exited with code {returncode}")
        if returncode:
            raise _failure(returncode, said)
        return self._read_output(stdout)

    def _bash(self, context: Context) -> list[str]:
        """Return Bash and its options; those recorded at the start of the Vect come first."""
        is_strict = self.strict if context.is_strict is None else context.is_strict
        return ["bash", "-eo", "pipefail", "-c"] if is_strict else ["bash", "-c"]

    def _folder(self, context: Context) -> str | os.PathLike[str] | None:
        """Return the working directory, with a value in place of a reference.

        Raises:
            StepError: The value does not exist, or is no path.
        """
        if not isinstance(self.cwd, Reference):
            return self.cwd
        try:
            return path_of(resolved(self.cwd, context), "cwd")
        except SettingError as error:
            raise StepError(f"step '{context.step}' cannot run: {error}") from error

    def _why_not_begun(self, error: Exception, cwd: str | os.PathLike[str] | None) -> str:
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            return _what_is_missing(cwd)
        if isinstance(error, OSError) and error.errno == errno.E2BIG:
            return self._what_is_too_large()
        if cwd is not None and getattr(error, "filename", None) == os.fspath(cwd):
            return f"cwd '{os.fspath(cwd)}' cannot be entered: {error}"
        return (
            f"its command was not started, or was ended at once, since the system is short of "
            f"resources: {error}; run fewer steps at once (max_workers), or raise the "
            "limits (ulimit -n, ulimit -u)"
        )

    def _what_is_too_large(self) -> str:
        size_bytes = len(os.fsencode(self.command))
        if size_bytes >= ARGUMENT_BYTES_MAX:
            return (
                f"its command has {size_bytes} bytes, but the system allows fewer than "
                f"{ARGUMENT_BYTES_MAX}; write it to a script file, and run that: bash script.sh"
            )
        if not self._is_wired:
            return (
                "its command and its env are larger than the system allows; write them to a "
                "script file, and run that: bash script.sh"
            )
        return (
            "its env is larger than the system allows; write the value to a file in a step, "
            "and give the command its path"
        )

    def _read_output(self, stdout: LogBuffer) -> Any:
        text = stdout.text()
        if self.output_form == "last_line":
            lines = _lines(text)
            last = lines[-1] if lines else None
            begins_in_what_is_gone = stdout.dropped_bytes and len(_lines(f"-{text}")) <= 1
            if begins_in_what_is_gone or len((last or "").encode()) > self.log_limit_bytes:
                raise self._cut(stdout)
            return last
        if stdout.written_bytes > self.log_limit_bytes:
            raise self._cut(stdout)
        if self.output_form == "text":
            return text
        try:
            return from_json(text)
        except ValueError as error:
            raise StepError(f"the command's output is not JSON: {error}") from error

    def _cut(self, stdout: LogBuffer) -> StepError:
        what = "last line" if self.output_form == "last_line" else "output"
        return StepError(
            f"the command's {what} is longer than log_limit_bytes, which is "
            f"{self.log_limit_bytes}: it has written {stdout.written_bytes} bytes; raise that "
            "limit, or write to a file and print its path"
        )


def _what_is_missing(cwd: str | os.PathLike[str] | None) -> str:
    if cwd is not None and not os.path.isdir(cwd):
        return f"cwd '{os.fspath(cwd)}' is no folder; make it, or name another"
    return "there is no 'bash' on the PATH; install it"


def as_text(key: str, value: object) -> str:
    """Return a value as the text of a variable: a text as it is, any other value as JSON."""
    try:
        plain = plain_of(value)
        text = plain if isinstance(plain, str) else to_json(plain).decode()
    except NotJsonError as error:
        raise StepError(f"env[{shown(key)}] cannot be written as text: {error}") from error
    if not _is_passable(text):
        raise StepError(f"env[{shown(key)}] must be text without NUL, not {shown(text)}")
    return text


def item_variables(item: Any) -> dict[str, str]:
    """Return the variables with the item of a map: `ITEM`, and of a dictionary `ITEM_key`.

    Raises:
        StepError: A value cannot be the value of a variable.
    """
    found = {ITEM: as_text(ITEM, item)}
    for key, value in item.items() if isinstance(item, Mapping) else ():
        name = f"{ITEM}_{at_heart(key)}" if isinstance(key, str) else ""
        if VARIABLE.fullmatch(name):
            found[name] = as_text(name, value)
    return found


def _pastes_a_step(command: object, flow: Owner) -> bool:
    """Whether the text of a command was made from a step: `f"echo {step}"`."""
    names = re.findall(r"<\w+ '(.+?)'>", command) if isinstance(command, str) else []
    steps = getattr(flow, "steps", {})
    return any(name in steps and repr(steps[name]) in str(command) for name in names)


def _lines(text: str) -> list[str]:
    """Return the lines that are not blank; only a newline ends a line, as in Bash."""
    return [line.rstrip("\r") for line in text.split("\n") if line.strip()]


def _is_passable(value: object) -> bool:
    """Whether a process can get a value as text: without NUL, and the system can encode it."""
    if not isinstance(value, str) or "\0" in value:
        return False
    try:
        os.fsencode(value)
    except UnicodeEncodeError:
        return False
    return True


def _failure(returncode: int, log: LogBuffer) -> StepError:
    last_lines = _lines(log.text())[-_LAST_LINES_SHOWN:]
    tail = f": {' | '.join(last_lines)}" if last_lines else ""
    if returncode > 0:
        why = _BROKEN_PIPE if returncode == _BROKEN_PIPE_CODE else ""
        message = f"the command exited with code {returncode}{why}{tail}"
        return FactError(message, exit_code=returncode)
    name = signal_name(-returncode)
    return FactError(f"the command was ended by {name}{tail}", signal=name)
