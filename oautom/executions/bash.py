"""`BashExecution`: a step that runs a Bash command in a process group of its own."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, Unpack, get_args

from oautom.executions.base import Execution, StepOptions
from oautom.executions.context import Context, LogBuffer
from oautom.executions.process import ProcessGroup
from oautom.executions.work import Skip, StepError
from oautom.executors.group import signal_name
from oautom.executors.leftovers import marks
from oautom.values import from_json

if TYPE_CHECKING:
    from oautom.flow import Flow

Output = Literal["last_line", "text", "json"]
_LAST_LINES_SHOWN = 5


class BashExecution(Execution):
    """A step that runs `bash -c command`; the step succeeds when its exit code is 0.

    The process leads a group of its own. When the step is cancelled, the whole group gets SIGTERM
    and, after `grace_period`, SIGKILL. When the command has ended, whatever it left in the
    background is ended as well. Standard input is empty. Beside `env`, the command finds
    `OAUTOM_FLOW`, `OAUTOM_VECT`, `OAUTOM_STEP` and `OAUTOM_ATTEMPT` in its environment, and with a
    durable log `OAUTOM_LOG` and `OAUTOM_ENGINE`: by these a recovery finds and ends what a dead
    program has left.

    Args:
        name: Name of the step, unique in its flow.
        flow: The flow that it belongs to.
        command: What Bash runs. Give it values by `env`, never by pasting them into the text.
        env: Variables added to the environment of this program.
        cwd: Working directory; that of this program unless said.
        output: What of standard output becomes the output of the step: its last line that is not
            blank (None if there is none), all of it as `text`, or all of it read as `json`.
        skip_exit_code: The exit code with which the command skips its step; None for no such code.
        grace_period: Seconds that a cancelled command has between SIGTERM and SIGKILL.
        options: As of every `Execution`; `log_limit_bytes` also holds for the output.

    Raises:
        FlowError: An argument cannot be used.
    """

    runs_here = True  # it is a process already; and only its parent can wait for it and end it

    def __init__(  # the signature that users know
        self,
        name: str,
        flow: Flow,
        command: str,
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        output: Output = "last_line",
        skip_exit_code: int | None = 99,
        *,
        grace_period: float = 3.0,
        **options: Unpack[StepOptions],
    ) -> None:
        if not _is_told(command) or not command.strip():
            raise self.wrong(flow, name, f"command must be text that Bash can run, not {command!r}")
        if output not in get_args(Output):
            known = ", ".join(repr(each) for each in get_args(Output))
            raise self.wrong(flow, name, f"output must be one of {known}, not {output!r}")
        if not isinstance(grace_period, int | float) or not 0 <= grace_period < float("inf"):
            raise self.wrong(
                flow, name, f"grace_period must be seconds, from 0, not {grace_period!r}"
            )
        is_code = isinstance(skip_exit_code, int) and not isinstance(skip_exit_code, bool)
        if skip_exit_code is not None and not (is_code and 0 < skip_exit_code < 256):
            raise self.wrong(
                flow, name, f"skip_exit_code must be from 1 to 255 or None, not {skip_exit_code!r}"
            )
        if cwd is not None and not isinstance(cwd, str | os.PathLike):
            raise self.wrong(flow, name, f"cwd must be a path, not {cwd!r}")
        if env is not None and not isinstance(env, Mapping):
            raise self.wrong(flow, name, f"env must be a mapping, not {env!r}")
        self.command = command
        self.env = dict(env or {})
        self._check_env(flow, name)
        self.cwd = cwd
        self.output_form = output
        self.skip_exit_code = skip_exit_code
        self.grace_period = grace_period
        super().__init__(name, flow, **options)

    def _check_env(self, flow: Flow, name: str) -> None:
        for key, value in self.env.items():
            if not _is_told(key) or not key or "=" in key:
                raise self.wrong(flow, name, f"env has {key!r}, which cannot name a variable")
            if not _is_told(value):
                raise self.wrong(
                    flow, name, f"env[{key!r}] must be text without NUL, not {value!r}; use str()"
                )

    def run(self, context: Context) -> Any:
        """Run the command to its end and return its output.

        Raises:
            StepError: It exited with another code than 0, was ended by a signal, or its output is
                no JSON where it should be.
        """
        log, stdout = context.buffer, LogBuffer(self.log_limit_bytes)

        def on_output(chunk: bytes) -> None:
            log.write(chunk)
            stdout.write(chunk)

        group = ProcessGroup(
            ["bash", "-c", self.command],
            env=os.environ | self.env | self._place(context),
            cwd=self.cwd,
            grace_period=self.grace_period,
            on_output=on_output,
            on_error=log.write,
        )
        if not context.on_cancel(group.cancel):
            raise StepError("the step was cancelled before its command began")
        try:
            returncode = group.run()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise StepError(self._what_is_missing()) from error
        if returncode and returncode == self.skip_exit_code:
            raise Skip(f"the command exited with code {returncode}")
        if returncode:
            raise _failure(returncode, log)
        return self._read_output(stdout)

    def _what_is_missing(self) -> str:
        if self.cwd is not None and not os.path.isdir(self.cwd):
            return f"cwd '{os.fspath(self.cwd)}' is no folder; make it, or name another"
        return "there is no 'bash' on the PATH; install it"

    @staticmethod
    def _place(context: Context) -> dict[str, str]:
        place = context.environment
        return place if context.log_id is None else place | marks(context.log_id)

    def _read_output(self, stdout: LogBuffer) -> Any:
        text = stdout.text()
        if self.output_form == "text":
            return text
        if self.output_form == "json":
            try:
                return from_json(text)
            except ValueError as error:
                cut = ""
                if stdout.dropped_bytes:
                    cut = f"; {stdout.dropped_bytes} bytes were too many, raise log_limit_bytes"
                raise StepError(f"the command's output is not JSON: {error}{cut}") from error
        lines = _lines(text)
        return lines[-1] if lines else None


def _lines(text: str) -> list[str]:
    """Return the lines that are not blank; a line ends where Bash ends it, and nowhere else."""
    return [line.rstrip("\r") for line in text.split("\n") if line.strip()]


def _is_told(value: object) -> bool:
    """Whether a value can be handed to a process: text without NUL that the system can encode."""
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
        return StepError(f"the command exited with code {returncode}{tail}", exit_code=returncode)
    name = signal_name(-returncode)
    return StepError(f"the command was ended by {name}{tail}", signal=name)
