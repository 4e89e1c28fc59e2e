"""The number of threads that kernels use, and the setting that decides it."""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from viva_tensor.error import InvalidValue
from viva_tensor.kernels import _team
from viva_tensor.kernels._team import set_eagerness as set_eagerness

__all__ = ["get_num_threads", "num_threads", "set_num_threads"]

# More than any machine has: a larger number is a mistake.
MOST_THREADS = 1024


def set_num_threads(n: int | None) -> None:
    """Use at most n threads in this process; None restores the default.

    The default is the least of ``OMP_NUM_THREADS``, the processors that this process may run on and its control group's
    CPU quota. A call with little work uses fewer threads. Results do not depend on their number.

    Raises
    ------
    InvalidValue
        If n is not between 1 and 1024, or a bool.
    TypeError
        If n is not a whole number.

    Examples
    --------
    >>> set_num_threads(1)
    >>> get_num_threads()
    1
    >>> set_num_threads(None)
    """
    _team.choose(0 if n is None else _checked("set_num_threads", n))


def get_num_threads() -> int:
    """Return the largest number of threads that a kernel called here would use.

    Examples
    --------
    >>> get_num_threads() >= 1
    True
    """
    return int(_team.get_threads()[0])


@contextmanager
def num_threads(n: int) -> Iterator[None]:
    """Use at most n threads in a block of code, for calls from this Python thread only.

    Examples
    --------
    >>> with num_threads(1):
    ...     get_num_threads()
    1
    """
    n = _checked("num_threads", n)
    before = _team.get_threads()[1]
    _team.choose_local(n)
    try:
        yield
    finally:
        _team.choose_local(before)


def decided_by() -> str:
    """Return the name of the setting that decides the number of threads.

    Examples
    --------
    >>> with num_threads(1):
    ...     decided_by()
    'num_threads()'
    """
    _, local, chosen, openmp, processors, refused = _team.get_threads()
    if not _team.openmp_version():
        return "a build without OpenMP"
    if refused:
        return "threads that could not be started"
    if local:
        return "num_threads()"
    if chosen:
        return "set_num_threads()"
    least = min(openmp, processors, _quota or processors)
    if _quota == least < min(openmp, processors):
        return "CPU quota of the control group"
    if openmp < processors:
        return "OMP_NUM_THREADS" if "OMP_NUM_THREADS" in os.environ else "OpenMP"
    return "processors that this process may run on"


def _checked(operation: str, n: int) -> int:
    n = n if isinstance(n, bool) else operator.index(n)
    if n is True or not 1 <= n <= MOST_THREADS:
        raise InvalidValue(f"got {n} threads, wanted 1 to {MOST_THREADS}", operation=operation)
    return n


def quota_from(root: Path, groups: str) -> int:
    """Return the processors that control groups grant, given a cgroup tree and /proc/self/cgroup; 0: no limit.

    A part of one counts as one: of 1.5 processors two threads get more done than one.
    """
    limits = []
    for line in groups.splitlines():
        if line.count(":") < 2:
            continue
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            limits += [_limit(folder / "cpu.max") for folder in group_folders(root, group)]
        elif "cpu" in controllers.split(","):
            for base in (root / controllers, root / "cpu"):
                for folder in group_folders(base, group):
                    limits.append(_limit(folder / "cpu.cfs_quota_us", folder / "cpu.cfs_period_us"))
    return math.ceil(min(limits)) if limits and min(limits) <= MOST_THREADS else 0


def group_folders(root: Path, group: str) -> list[Path]:
    """Return a group's folder and the folders above it: each may set a limit."""
    folder = root / group.lstrip("/")
    return [folder, *(parent for parent in folder.parents if parent.is_relative_to(root))]


def _limit(*files: Path) -> float:
    """Return quota / period from one file (v2) or two (v1); infinite without a limit: no file, "max" or -1."""
    try:
        quota, period = (int(number) for file in files for number in file.read_text("ascii").split())
        return quota / period if quota > 0 and period > 0 else math.inf
    except (OSError, OverflowError, ValueError):
        return math.inf


try:
    _quota = quota_from(Path("/sys/fs/cgroup"), Path("/proc/self/cgroup").read_text("utf-8"))
except (OSError, ValueError):
    _quota = 0
_team.set_quota(_quota)
