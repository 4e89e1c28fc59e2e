"""What ranks tell each other before they go on together: what must be the same, and whether one of them has failed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from viva_tensor.error import RankError

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

Result = TypeVar("Result")


def agree(comm: Intracomm, operation: str, facts: dict[str, object]) -> None:
    """Raise on every rank, naming the ranks, if they do not hold the same facts.

    Examples
    --------
    >>> class Alone:
    ...     def allgather(self, value):
    ...         return [value]
    >>> agree(Alone(), "compile_step", {"dtype": "float32"})
    """
    gathered = comm.allgather({name: str(value) for name, value in facts.items()})
    for name in facts:
        values = [one.get(name) for one in gathered]
        if len(set(values)) > 1:
            first = next(rank for rank, value in enumerate(values) if value != values[0])
            raise RankError(
                f"{name} is {values[0]} on rank 0 and {values[first]} on rank {first}",
                operation=operation,
                hint="start the same program with the same settings and packages on every rank",
            )


def part(count: int, rank: int, size: int) -> slice:
    """The own ones of so many things that the ranks share out, one after another.

    Examples
    --------
    >>> [part(10, rank, 4) for rank in range(4)]
    [slice(0, 2, None), slice(2, 5, None), slice(5, 7, None), slice(7, 10, None)]
    """
    return slice(count * rank // size, count * (rank + 1) // size)


def together(comm: Intracomm, operation: str, function: Callable[[], Result]) -> Result:
    """Return what a function gives on this rank, if it fails on none; else raise on every rank, with the name of one.

    Examples
    --------
    >>> class Second:
    ...     def allgather(self, value):
    ...         return ["MemoryError: no room", value]
    >>> together(Second(), "state", lambda: 7)
    Traceback (most recent call last):
    viva_tensor.error.RankError: state: rank 0 failed with MemoryError: no room
    """
    failure: BaseException | None = None
    try:
        result = function()
    except BaseException as error:  # also Ctrl-C: the other ranks wait
        failure = error
    raise_on_all(comm, operation, failure)
    return result


def raise_on_all(comm: Intracomm, operation: str, failure: BaseException | None) -> None:
    """Raise what has failed on this rank, or name another where something has; every rank comes here.

    Examples
    --------
    See :func:`together`.
    """
    known = comm.allgather(None if failure is None else _told(failure))
    if failure is not None:
        raise failure
    for rank, message in enumerate(known):
        if message is not None:
            raise RankError(f"rank {rank} failed with {message}", operation=operation)


def _told(failure: BaseException) -> str:
    try:
        return f"{type(failure).__name__}: {failure}"
    except Exception:  # its own text fails
        return type(failure).__name__
