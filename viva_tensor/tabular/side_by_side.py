"""Jobs that train side by side: small steps get more done on a thread each than all threads on one of them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from threading import Lock
from typing import TypeVar

from viva_tensor import kernels

LOOK = 0.2  # seconds until an interruption is seen where the system does not wake a thread that waits
TURN = 1e-4  # seconds for which a thread may keep Python's lock from another, which needs it between short steps
T = TypeVar("T")


class _ShortTurns:
    """Shorten the time that threads wait for Python's lock, until the last of those who want that leaves."""

    def __init__(self) -> None:
        self._lock, self._users, self._usual = Lock(), 0, 0.0

    def __enter__(self) -> None:
        with self._lock:
            if not self._users:
                self._usual = sys.getswitchinterval()
                sys.setswitchinterval(min(self._usual, TURN))
            self._users += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                sys.setswitchinterval(self._usual)


_SHORT_TURNS = _ShortTurns()


class Sharing:
    """The threads that are left for each of several jobs, and whether they are to stop."""

    def __init__(self, jobs: int) -> None:
        self.threads = kernels.get_num_threads()
        self.unfinished = jobs
        self.stopped = False

    @property
    def workers(self) -> int:
        """How many jobs run at a time."""
        return max(1, min(self.threads, self.unfinished))

    def share(self) -> AbstractContextManager[None]:
        """Give the calling thread its share of the threads; once few jobs are left, each has more."""
        return kernels.num_threads(max(1, self.threads // self.workers))


class Results(list[T]):
    """The results of the jobs that ended, in the order of the jobs; and whether an interruption stopped the others."""

    interrupted = False


def side_by_side(jobs: Sequence[Callable[[Sharing], T]]) -> Results[T]:
    """Call each job, as many at a time as there are threads, and return their results.

    On an interruption from the keyboard, jobs that have begun are told to stop, and what they return is kept; others do
    not begin. An error of a job stops the others, and is raised.

    Examples
    --------
    >>> side_by_side([lambda sharing, i=i: i * i for i in range(4)])
    [0, 1, 4, 9]
    """
    sharing = Sharing(len(jobs))
    results: Results[T] = Results()

    def call(job: Callable[[Sharing], T]) -> T:
        if sharing.stopped:
            raise CancelledError
        try:
            return job(sharing)
        except BaseException:
            sharing.stopped = True
            raise
        finally:
            sharing.unfinished -= 1  # one bytecode too many is harmless: it only shares out threads

    with _SHORT_TURNS, ThreadPoolExecutor(sharing.workers, "viva_tensor") as pool:
        futures = [pool.submit(call, job) for job in jobs]
        waiting = True
        while waiting:
            try:
                while not all(future.done() for future in futures):
                    wait(futures, timeout=LOOK)
                waiting = False
            except KeyboardInterrupt:
                results.interrupted = sharing.stopped = True
                for future in futures:
                    future.cancel()
        results.extend(future.result() for future in futures if not _cancelled(future))
    return results


def _cancelled(future: Future[T]) -> bool:
    return future.cancelled() or isinstance(future.exception(), CancelledError)
