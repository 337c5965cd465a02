"""`ProcessesExecutor`: worker processes, for steps that compute."""

from __future__ import annotations

import signal
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context


class ProcessesExecutor(ProcessPoolExecutor):
    """A pool of spawned processes that leaves none behind.

    Spawned and not forked: a forked worker would inherit every lock and file of this program.
    """

    def __init__(self, max_workers: int) -> None:
        super().__init__(
            max_workers, mp_context=get_context("spawn"), initializer=_leave_signals_to_the_parent
        )

    def kill(self) -> None:
        """End the workers at once, whatever they are doing."""
        workers = list((self._processes or {}).values())
        self.shutdown(wait=False, cancel_futures=True)
        for worker in workers:
            worker.kill()
        for worker in workers:
            worker.join()


def _leave_signals_to_the_parent() -> None:
    """Ignore Ctrl-C, which a terminal sends to the workers as well."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
