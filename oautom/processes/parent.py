"""The small parent of one command: `python parent.py <fd> <what at an end of input> <argv...>`.

It writes into a pipe the number of the command before the command begins, then its exit status, and
reaps it after a byte on its own standard input. If that input ends without a byte, the process that
has started us is dead: then the command is left at work (`leave`), or ended with all that it has
started (`end`). The command has all that a child of oautom has. It imports nothing of oautom, and
little else: it must start quickly.

The system could also send a signal at the death of a parent (`PR_SET_PDEATHSIG` of Linux), but it
does so at the end of the *thread* that has forked, and to that one child only.
"""

import _thread
import os
import signal
import sys


def _tell(pipe: int, name: str, number: int) -> None:
    try:
        os.write(pipe, f"{name} {number}\n".encode())
    except BrokenPipeError:  # nobody reads any more: `_listen` does what is to be done then
        return


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


def _listen(pid: int, at_end: str, is_over: _thread.LockType) -> None:
    """Wait for the byte, or for the end of the input; the command is not reaped yet."""
    if not os.read(0, 1) and at_end == "end":
        try:
            os.killpg(pid, signal.SIGKILL)
        except ProcessLookupError:  # it does not lead its group yet
            os.kill(pid, signal.SIGKILL)
    is_over.release()


def _watch(pid: int, pipe: int, at_end: str) -> None:
    """Write the exit status of the command; reap it when its group is not signalled any more."""
    is_over = _thread.allocate_lock()
    is_over.acquire()
    _thread.start_new_thread(_listen, (pid, at_end, is_over))
    if hasattr(os, "waitid"):
        end = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert end is not None
        code = end.si_status if end.si_code == os.CLD_EXITED else -end.si_status
        _tell(pipe, "code", code)
        is_over.acquire()
        os.waitpid(pid, 0)
    else:  # macOS before Python 3.13
        _tell(pipe, "code", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        is_over.acquire()


def main() -> None:
    """Run the command."""
    pipe = int(sys.argv[1])
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # our parent may ignore it
    pid = os.fork()
    if pid == 0:
        _become(sys.argv[3:], pipe)
    os.close(1)  # so that the output ends when the group has closed it
    os.close(2)
    _watch(pid, pipe, sys.argv[2])


if __name__ == "__main__":
    main()
