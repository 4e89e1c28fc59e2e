"""The parameters and the optimiser's moments in memory: how they are laid out, copied and restored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from viva_tensor import kernels
from viva_tensor.distributed.shards import Shard
from viva_tensor.error import InvalidValue
from viva_tensor.kernels import build
from viva_tensor.kernels.arrays import Array
from viva_tensor.kernels.checks import is_step_count
from viva_tensor.optim import Optimizer
from viva_tensor.program.layouts import Panels
from viva_tensor.program.memory import aligned
from viva_tensor.program.source import Source

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

PANEL_ROW_BYTES = 128  # bytes of the widest panel's row
assert all(build.tile(kind)[1] * np.dtype(kind).itemsize <= PANEL_ROW_BYTES for kind in "fd")


class State(NamedTuple):
    """Copies of all that a step changes: its parameters, the optimiser's moments, and the number of steps made.

    Moments and the name of the optimiser's class are as in :class:`viva_tensor.optim.State`: for each kind of moment a
    tuple of arrays, one for each parameter; the last is the average of the parameters if the step keeps one.
    """

    params: tuple[Array, ...]
    moments: tuple[tuple[Array, ...], ...]
    steps: int
    optimizer: str | None = None


class Block(NamedTuple):
    """Flat arrays one after another in one memory."""

    memory: Array
    arrays: tuple[Array, ...]


class ParameterStore:
    """The parameters in a block, each in its layout, and such a block for each kind of moment.

    With ``comm``, each rank keeps only its shard of the moments. With ``averaged``, the last kind of moment is an
    average of the parameters.
    """

    def __init__(
        self,
        source: Source,
        layouts: Mapping[int, Panels],
        optimizer: Optimizer,
        comm: Intracomm | None = None,
        averaged: bool = False,
    ) -> None:
        self._source, self._optimizer, self.layouts = source, type(optimizer).__name__, layouts
        self.params = self.block()
        self._put(self.params, [variable.data for variable in source.params])
        memory, arrays = self.params
        begins = [(array.ctypes.data - memory.ctypes.data) // array.itemsize for array in arrays]
        self.shard = None if comm is None else Shard(comm, memory.size, PANEL_ROW_BYTES // source.dtype.itemsize)
        self._spans = [  # of each parameter, the elements that are updated on this rank
            slice(0, array.size) if self.shard is None else self.shard.span(begin, array.size)
            for begin, array in zip(begins, arrays, strict=True)
        ]
        slots = (*optimizer.slots, *["average"] * averaged)
        self._kept = [self.block() if self.shard is None else self._piece(self.shard, begins) for _ in slots]
        self.moments = {slot: block.arrays for slot, block in zip(slots, self._kept, strict=True)}
        if averaged:
            self.start_average()

    @property
    def _local(self) -> slice:
        """The elements of the parameters' memory that are updated on this rank."""
        return slice(None) if self.shard is None else slice(self.shard.begin, self.shard.end)

    def start_average(self) -> None:
        """Make the parameters their average."""
        self._kept[-1].memory[...] = self.params.memory[self._local]

    def average(self, kept: float) -> None:
        """Take the parameters into their average, of which this share is kept."""
        old = self._kept[-1].memory
        change = kernels.sub(self.params.memory[self._local], old)
        kernels.add(old, kernels.scale(change, 1 - kept, out=change), out=old)

    def block(self, more: int = 0) -> Block:
        """Return zeros for the parameters, each from the start of a cache line.

        Zeros follow each up to the end of a panel, for biases that are added to whole panels. The first array has
        `more` elements, if any.
        """
        counts = [more] * bool(more)
        for index, variable in enumerate(self._source.params):
            counts.append(self.layouts[index].size if index in self.layouts else variable.data.size)
        dtype = self._source.dtype
        sizes = (count * dtype.itemsize + 2 * PANEL_ROW_BYTES for count in counts)
        starts = [0, *accumulate(size // PANEL_ROW_BYTES * PANEL_ROW_BYTES for size in sizes)]
        memory = aligned(starts[-1]).view(dtype)
        begins = (start // dtype.itemsize for start in starts)
        return Block(memory, tuple(memory[begin : begin + count] for begin, count in zip(begins, counts, strict=False)))

    def _piece(self, shard: Shard, begins: Sequence[int]) -> Block:
        """Return zeros for a shard of a block, in which parameters have these offsets."""
        memory = aligned((shard.end - shard.begin) * self.params.memory.itemsize).view(self.params.memory.dtype)
        firsts = (begin + local.start - shard.begin for begin, local in zip(begins, self._spans, strict=True))
        sizes = (local.stop - local.start for local in self._spans)
        return Block(memory, tuple(memory[first : first + size] for first, size in zip(firsts, sizes, strict=True)))

    def local(self, arrays: Iterable[Array]) -> list[Array]:
        """Return the parts of arrays that are updated on this rank; the arrays have the layout of the parameters."""
        return [array[span] for array, span in zip(arrays, self._spans, strict=True)]

    def _put(self, block: Block, values: Iterable[Array]) -> None:
        for index, (flat, value) in enumerate(zip(block.arrays, values, strict=True)):
            if index in self.layouts:
                self.layouts[index].store(np.asarray(value), flat)
            else:
                flat[...] = np.ravel(value)

    def _values(self, arrays: Iterable[Array]) -> tuple[Array, ...]:
        """Return copies, in rows."""
        return tuple(
            self.layouts[index].load(flat) if index in self.layouts else flat.reshape(variable.data.shape).copy()
            for index, (flat, variable) in enumerate(zip(arrays, self._source.params, strict=True))
        )

    def values(self) -> tuple[Array, ...]:
        """Return copies of the parameters, in rows."""
        return self._values(self.params.arrays)

    def state(self, steps: int, wholes: Sequence[Block] = ()) -> State:
        """Return copies of everything after so many steps, the moments from ``wholes`` if shards are kept here."""
        moments = tuple(self._values(block.arrays) for block in wholes or self._kept)
        return State(self.values(), moments, steps, self._optimizer)

    def whole_moments(self) -> list[Block]:
        """Return a block for each kind of moment, with this rank's shard in it."""
        assert self.shard is not None
        wholes = [self.block() for _ in self._kept]
        for whole, kept in zip(wholes, self._kept, strict=True):
            whole.memory[self.shard.begin : self.shard.end] = kept.memory
        return wholes

    def prepared(self, state: State) -> list[Block]:
        """Return the parameters and moments of a state in the layouts of this program, in new memory.

        All that can fail is done here, before anything is changed.
        """
        if not isinstance(state, State):
            raise InvalidValue(
                f"got {type(state).__name__}, wanted program.State", operation="restore", hint="give what state() gave"
            )
        params, moments, steps, optimizer = state
        if optimizer not in (None, self._optimizer):
            raise InvalidValue(
                f"the state is that of another program: of {optimizer}, wanted {self._optimizer}",
                operation="restore",
                hint=f"compile the same step with {optimizer}",
            )
        wanted = [(variable.data.shape, self._source.dtype) for variable in self._source.params]
        try:
            given = [[(np.shape(array), np.asarray(array).dtype) for array in arrays] for arrays in (params, *moments)]
        except (TypeError, ValueError):  # no arrays, or none at all
            given = []
        if given != [wanted] * (1 + len(self._kept)):
            dtypes = {str(dtype) for arrays in given for _, dtype in arrays} - {str(self._source.dtype)}
            other = f": of {', '.join(sorted(dtypes))}, wanted {self._source.dtype}" if dtypes else ""
            reason = f"the state is that of another program{other}"
            raise InvalidValue(reason, operation="restore", hint="compile the same step")
        if not is_step_count(steps):
            raise InvalidValue(f"steps={steps!r}, wanted a whole number from 0 to 2**62 - 1", operation="restore")
        ready = [self.block() for _ in (params, *moments)]
        for block, values in zip(ready, (params, *moments), strict=True):
            self._put(block, values)
        return ready

    def copies(self, ready: Sequence[Block]) -> Array:
        """Return the copies that :func:`viva_tensor.program._executor.put` makes to restore a prepared state."""
        params, *moments = ready
        pairs = [(params.memory, self.params.memory)]
        pairs += [(new.memory[self._local], kept.memory) for new, kept in zip(moments, self._kept, strict=True)]
        return np.array([(new.ctypes.data, old.ctypes.data, old.nbytes) for new, old in pairs], np.int64)
