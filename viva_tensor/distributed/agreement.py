"""What ranks check with each other before they go on: whether values are equal, and whether one of them has failed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np

from viva_tensor.error import RankError

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

DIGESTED_BYTES = 1 << 20  # of an array, at most


def require_equal(comm: Intracomm, operation: str, values: Mapping[str, object]) -> None:
    """Raise RankError on every rank if one of the named values differs between ranks.

    Examples
    --------
    >>> class Alone:
    ...     def allgather(self, value):
    ...         return [value]
    >>> require_equal(Alone(), "compile_step", {"dtype": "float32"})
    """
    gathered = comm.allgather({name: str(value) for name, value in values.items()})
    for name in values:
        first, *others = (named.get(name) for named in gathered)
        for rank, other in enumerate(others, 1):
            if other != first:
                raise RankError(
                    f"{name} is {first} on rank 0 and {other} on rank {rank}",
                    operation=operation,
                    hint="start the same program with the same settings and packages on every rank",
                )


def digest(*parts: Any) -> str:
    """Return a digest of bytes, or of what has a buffer, short enough to be shown.

    Examples
    --------
    >>> digest(b"a"), digest(b"a") == digest(b"b")
    ('ca978112ca1bbdca', False)
    """
    found = sha256()
    for part in parts:
        found.update(part)
    return found.hexdigest()[:16]


def digests(rows: int, /, **arrays: Any) -> dict[str, str]:
    """Return a digest of each array by at most so many of its rows, to be compared among ranks.

    Examples
    --------
    >>> digests(2, x=np.arange(5)) == digests(2, x=np.array([0, 7, 7, 3, 7]))
    True
    """
    found = {}
    for name, given in arrays.items():
        array = np.atleast_1d(np.asarray([] if given is None else given))
        count = max(1, min(rows, DIGESTED_BYTES // max(1, array[:1].nbytes)))
        found[f"the digest of {name}"] = digest(np.ascontiguousarray(array[:: -(-len(array) // count) or 1]))
    return found


def local_slice(count: int, rank: int, size: int) -> slice:
    """Return this rank's slice of ``count`` items that are divided among ``size`` ranks in order.

    Examples
    --------
    >>> [local_slice(10, rank, 4) for rank in range(4)]
    [slice(0, 2, None), slice(2, 5, None), slice(5, 7, None), slice(7, 10, None)]
    """
    return slice(count * rank // size, count * (rank + 1) // size)


@contextmanager
def fail_together(comm: Intracomm, operation: str) -> Iterator[None]:
    """Make a block fail on every rank if it fails on one: there with its own error, elsewhere with RankError.

    Examples
    --------
    >>> class Second:
    ...     def allgather(self, value):
    ...         return ["MemoryError: no room", value]
    >>> with fail_together(Second(), "state"):
    ...     pass
    Traceback (most recent call last):
    viva_tensor.error.RankError: state: rank 0 failed with MemoryError: no room
    """
    failure: BaseException | None = None
    try:
        yield
    except BaseException as error:  # also Ctrl-C: the other ranks wait
        failure = error
    raise_on_all(comm, operation, failure)


def raise_on_all(comm: Intracomm, operation: str, failure: BaseException | None) -> None:
    """Raise this rank's failure, or RankError if another rank has failed; every rank makes this call.

    Examples
    --------
    See :func:`fail_together`.
    """
    messages = comm.allgather(None if failure is None else _message(failure))
    if failure is not None:
        raise failure
    for rank, message in enumerate(messages):
        if message is not None:
            raise RankError(f"rank {rank} failed with {message}", operation=operation)


def _message(failure: BaseException) -> str:
    try:
        text = str(failure)
    except Exception:  # its own text fails
        text = ""
    return f"{type(failure).__name__}: {text}" if text else type(failure).__name__
