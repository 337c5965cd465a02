"""The small parent of one command, a program of its own: `python parent.py <fd> <argv...>`.

It writes into a pipe the number of the command before the command begins, then its exit status, and
reaps it after a byte on its own standard input. The command has all that a child of oautom has. It
imports nothing of oautom, and little else: it must start quickly.
"""

import os
import signal
import sys


def _tell(pipe: int, name: str, number: int) -> None:
    os.write(pipe, f"{name} {number}\n".encode())


def _become(argv: list[str], pipe: int) -> None:
    """Turn this process into the command; in the child."""
    try:
        os.setsid()
        _tell(pipe, "pid", os.getpid())
        os.set_inheritable(pipe, False)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python has ignored them
            signal.signal(number, signal.SIG_DFL)
        os.execvp(argv[0], argv)  # noqa: S606 - whatever it is
    except OSError as error:
        _tell(pipe, "errno", error.errno or 0)
    finally:
        os._exit(127)


def _watch(pid: int, pipe: int) -> None:
    """Write the exit status of the command; reap it when its group is not signalled any more."""
    if hasattr(os, "waitid"):
        end = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert end is not None
        code = end.si_status if end.si_code == os.CLD_EXITED else -end.si_status
        _tell(pipe, "code", code)
        os.read(0, 1)
        os.waitpid(pid, 0)
    else:  # macOS before Python 3.13
        _tell(pipe, "code", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        os.read(0, 1)


def main() -> None:
    """Run the command."""
    pipe = int(sys.argv[1])
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # our parent may ignore it
    pid = os.fork()
    if pid == 0:
        _become(sys.argv[2:], pipe)
    os.close(1)  # so that the output ends when the group has closed it
    os.close(2)
    _watch(pid, pipe)


if __name__ == "__main__":
    main()
