"""A step whose gradients are averaged over the ranks of an MPI communicator, between backward and update.

Each rank makes its gradients times its number of rows, all in one block that begins with the loss and the number of
rows; sums over the ranks in place, and the update divides by the rows of all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from viva_tensor._version import __version__
from viva_tensor.distributed.agreement import agree, part, raise_on_all, together
from viva_tensor.distributed.buckets import BUCKET, Buckets
from viva_tensor.distributed.clock import Clock, Times
from viva_tensor.distributed.interrupts import Interrupts
from viva_tensor.distributed.shards import Shard
from viva_tensor.error import InvalidValue, RankError
from viva_tensor.kernels import _dispatch
from viva_tensor.kernels.arrays import Array, as_array
from viva_tensor.kernels.threads import get_num_threads
from viva_tensor.optim import Optimizer
from viva_tensor.program._executor import put
from viva_tensor.program.builder import Builder
from viva_tensor.program.emission import Holdings
from viva_tensor.program.instructions import Buffer, Clip, Instruction, Matmul, SquaredNorm, Symbol, Update
from viva_tensor.program.layouts import Panels
from viva_tensor.program.memory import aligned
from viva_tensor.program.passes import PASSES, update_in_product, update_in_sum
from viva_tensor.program.planning import Plan, plan
from viva_tensor.program.scheduling import Planned
from viva_tensor.program.source import Shapes, Source
from viva_tensor.program.step import PANEL_ROW_BYTES, Run, State, Step, copies

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

SEPARATE = tuple(improve for improve in PASSES if improve not in (update_in_product, update_in_sum))
UPDATING = (Update, SquaredNorm, Clip)
# numbers before the gradients: loss · rows, rows, how many ranks have failed, how many ask for times, and the rate of
# rank 0 in three parts
HEADER_NUMBERS = 7


def _parts(number: float, dtype: np.dtype[Any]) -> list[float]:
    """A number in float64 as a sum of three that have a dtype.

    Examples
    --------
    >>> sum(reversed(_parts(0.1, np.dtype("f4")))) == 0.1
    True
    """
    parts = []
    for _ in range(3):
        parts.append(float(dtype.type(number)))
        number -= parts[-1] if np.isfinite(parts[-1]) else number
    return parts


def _digest(arrays: Iterable[ArrayLike]) -> str:
    return hashlib.sha256(b"".join(np.asarray(array).tobytes() for array in arrays)).hexdigest()


def complete(planned: Iterable[Planned], params: int, firsts: Sequence[int]) -> tuple[int, ...]:
    """After how many calls the gradients from each of `firsts` on are complete: parameters from `params` on."""
    calls = 0
    last: dict[int, int] = {}
    for one in planned:
        calls += one.calls
        for symbol in one.instruction.results.values():
            if symbol.buffer.kind == "parameter":
                last[symbol.buffer.index - params] = calls
    return tuple(max((at for index, at in last.items() if index >= first), default=0) for first in firsts)


def gradients(instructions: Sequence[Instruction], params: int, dtype: np.dtype[Any]) -> list[Instruction]:
    """Return the instructions that make the gradients, without the updates.

    The gradient of parameter i then is parameter ``params + i``, an array of the caller's; one that is no array of its
    own, in rows, is copied into it.
    """
    kept = [one for one in instructions if not isinstance(one, UPDATING)]
    made = {symbol.buffer for one in kept for symbol in one.results.values()}
    for one in instructions:
        if isinstance(one, Update):
            grad, index = one.operands["grad"], one.results["w"].buffer.index
            if not (grad.buffer in made and grad.buffer.kind == "temporary" and grad.size == grad.buffer.size):
                build = Builder(dtype)
                writers = (i for i, one in enumerate(kept) if grad.buffer in [to.buffer for to in one.results.values()])
                behind = 1 + max(writers, default=-1)  # as soon as it can be, for it is waited for
                grad = build.scaled(grad, 1.0, grad.shape)
                kept[behind:behind] = build.instructions
            grad.buffer.kind, grad.buffer.index, grad.buffer.name = "parameter", params + index, f"g{index}"
    return kept


class RankStep(Step):
    """A step on the rows of one rank, with the update that all rows of all ranks lead to.

    What :func:`viva_tensor.program.compile_step` makes with ``comm``. The loss is that of all rows. Parameters are
    those of rank 0 from the start, the learning rate of each step is rank 0's, and so parameters have the same bits on
    every rank.

    Every rank makes the same calls in the same order: steps and runs, :meth:`restore`, and :meth:`state` where the
    optimiser's state is sharded. Where one rank cannot go on, be it for its rows, its memory, a schedule, a callback or
    Ctrl-C, the step is made on none and all raise. A rank that no longer makes the calls at all, since it ended between
    two of them, is not noticed here.

    Only the thread that makes the calls speaks to MPI, so THREAD_FUNNELED is enough.
    """

    def __init__(
        self,
        source: Source,
        params: Any,
        optimizer: Optimizer,
        rng: np.random.Generator | None,
        comm: Intracomm,
        overlap: bool = False,
        shard_state: bool = False,
    ) -> None:
        from mpi4py import MPI

        self._comm = comm
        self._bucket = BUCKET if overlap else 0
        self._sharded = shard_state
        self._interrupts = Interrupts()
        self._clock = Clock()
        self._asked = self._timing = False
        self._failure: BaseException | None = None
        self._scale = np.ones((), source.dtype)
        self._updates: dict[int, Plan] = {}
        self._gradients: tuple[Array, ...] = ()
        self._pieces: list[Array] = []
        level = min(comm.allgather(MPI.Query_thread()))
        if level < MPI.THREAD_FUNNELED:
            raise RankError(
                "MPI was started for programs without threads",
                operation="compile_step",
                hint='set mpi4py.rc.thread_level = "funneled" before mpi4py.MPI is first imported',
            )
        agree(
            comm,
            "compile_step",
            {
                "viva_tensor": __version__,
                "numpy": np.__version__,
                "the instruction set (VIVA_TENSOR_ISA)": _dispatch.isa,
                "dtype": source.dtype,
                "the parameters' shapes": [variable.data.shape for variable in source.params],
                "the inputs' shapes": [variable.data.shape[1:] for variable in source.inputs],
                "optimizer": optimizer,
                "overlap": bool(overlap),
                "shard_state": bool(shard_state),
            },
        )
        together(comm, "compile_step", lambda: super(RankStep, self).__init__(source, params, optimizer, rng))
        agree(comm, "compile_step", {"the layout of parameters": self._layouts})
        comm.Bcast(self._memory)
        agree(comm, "compile_step", {"parameters": self.fingerprint()})

    def fingerprint(self) -> str:
        """The SHA-256 of all parameters, in hexadecimal: the same on every rank."""
        with self._lock:
            return _digest(self._load(self._params))

    def __call__(self, *inputs: ArrayLike) -> float:
        """Make one step on this rank's rows, which may be none if others have some; the loss of all rows.

        Raises
        ------
        ShapeMismatch, DimensionError, DtypeError
            If the inputs are not like the recorded ones. Nothing is changed then, on any rank.
        InvalidValue
            If no rank has any rows.
        RankError
            If another rank failed.
        """
        with self._interrupts:
            return self._together(lambda: inputs)[0]

    def _train(self, checked: Callable[[], Run]) -> list[float]:
        def called(epoch: int, loss: float) -> None:
            try:
                if run.callback is not None:
                    self._interrupts.allowed(run.callback, epoch, loss)
            except BaseException as error:  # the other ranks are in the next step already
                self._failure = error

        with self._interrupts:
            run, facts = together(self._comm, "step", lambda: self._facts(checked()))
            agree(self._comm, "run", facts)
            losses = self._epochs(replace(run, callback=called))
            together(self._comm, "step", self._ready)
        return losses

    def _facts(self, run: Run) -> tuple[Run, dict[str, object]]:
        """A run, and what of it must be the same on all ranks."""
        facts: dict[str, object] = {"epochs": run.epochs, "shared": run.shared, "lr": self._optimizer.lr}
        if run.shared:
            facts |= {
                "batch_size": run.batch_size,
                "the number of rows": len(run.arrays[0]),
                "the rows": None if run.chosen is None else hashlib.sha256(run.chosen.data).hexdigest(),
                "rng": self._state_of(run.rng),
            }
        return run, facts

    @staticmethod
    def _state_of(rng: np.random.Generator | None) -> object:
        if not (rng is None or isinstance(rng, np.random.Generator)):
            hint = "give np.random.default_rng(seed), with the same seed on every rank"
            raise InvalidValue(f"shared rows with rng of type {type(rng).__name__}", operation="run", hint=hint)
        return None if rng is None else rng.bit_generator.state

    def _ready(self) -> None:
        """Raise what has happened between two steps."""
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        self._interrupts.check()

    def _epoch(self, run: Run) -> float:
        order = None
        try:
            order = run.order()
        except BaseException as error:  # the other ranks are in the next step already
            self._failure = error
        size = run.batch_size
        steps = max(self._comm.allgather(-(-run.count // size)))
        total = seen = 0.0
        for begin in range(0, steps * size, size):

            def batch(begin: int = begin) -> list[Array]:
                if run.schedule is not None:
                    rate = self._interrupts.allowed(run.schedule, self.steps + 1)
                    self._rule.lr = self._optimizer.at_rate(rate).lr
                taken = slice(begin, min(begin + size, run.count))
                if run.shared:
                    local = part(taken.stop - begin, self._comm.rank, self._comm.size)
                    taken = slice(begin + local.start, begin + local.stop)
                chosen: Any = taken if order is None else order[taken]
                return [array[chosen] for array in run.arrays]

            loss, count = self._together(batch)
            total += loss * count
            seen += count
        return total / seen

    def _together(self, batch: Callable[[], Sequence[ArrayLike]]) -> tuple[float, float]:
        """One step of all ranks: the loss of all rows, and their number. Interrupts are held back."""
        clock, sums = self._clock, self._sums
        clock.begin(self._timing)
        drawn: Any = None if self._rng is None else self._rng.bit_generator.state
        inputs: Sequence[ArrayLike] = ()
        failure: BaseException | None = None
        loss, rows = 0.0, 0
        try:
            self._ready()
            inputs = batch()
        except BaseException as error:
            self._failure = error
        with self._lock, np.errstate(all="ignore"):
            try:
                self._ready()
                update = self._update().executor
                loss, rows = self._backward(inputs)
            except BaseException as error:
                failure, loss, rows = error, 0.0, 0
            sums.start_all_but_last()
            clock.count("compute")
            if clock.running:
                self._comm.Barrier()
                clock.count("wait")
            tail = self._gradients[0]
            tail[:4] = loss * rows, rows, failure is not None, self._asked
            tail[4:] = _parts(self._rule.lr, tail.dtype) if self._comm.rank == 0 else 0
            sums.finish()
            clock.count("reduce")
            total, count, failed, asked, *rate = map(float, tail)
            self._timing = asked > 0
            if failed or not count:
                if self._rng is not None:
                    self._rng.bit_generator.state = drawn
                raise_on_all(self._comm, "step", failure)
                raise InvalidValue("no rank has any rows", operation="step")
            self._rule.lr = sum(reversed(rate))
            self._scale[...] = 1 / count
            if self._optimizer.clip_norm is not None:
                self._reduced *= self._scale  # its norm is what is clipped
            update.run((), True, 0, update.calls())
            clock.count("compute")
            if self._sharded:
                self._shard.gather(self._memory)
                clock.count("reduce")
            clock.end()
        return total / count, count

    def _backward(self, inputs: Sequence[ArrayLike]) -> tuple[float, int]:
        """Put this rank's gradients into the block, and send its buckets off; the loss, and the number of rows."""
        arrays = tuple(np.ascontiguousarray(as_array("step", one, self._dtype(one))) for one in inputs)
        shapes = self._source.shapes("step", arrays)
        rows = shapes[0][0] if shapes[0] else 1
        self._draw()
        if not rows:
            self._reduced[:] = 0
            return 0.0, 0
        found = self._plan(shapes)
        begin = 0
        for end in found.cuts:
            if end > begin:
                found.executor.run(arrays, True, begin, end)
            self._sums.start()
            self._interrupts.check()
            begin = end
        loss = found.executor.run(arrays, True, begin, found.executor.calls())
        assert loss is not None  # arrays are plain, and of these shapes
        return loss, rows

    @property
    def timed(self) -> bool:
        """Whether this rank asks for :meth:`times`; setting it begins them anew.

        If any rank asks, each step from the next but one on is timed on all of them, with a barrier before its sums
        that tells waiting from reducing.
        """
        return self._asked

    @timed.setter
    def timed(self, value: bool) -> None:
        self._asked = bool(value)
        self._clock = Clock()

    def times(self) -> Times:
        """Return where the time of this rank has gone in the steps that were :attr:`timed`."""
        return self._clock.times()

    def state(self) -> State:
        """Copies of all that a step changes; where the optimiser's state is sharded, every rank must make this call."""
        if not self._sharded:
            return super().state()
        with self._interrupts, self._lock:
            wholes = together(self._comm, "state", lambda: [self._blocks() for _ in self._pieces])
            for piece, (memory, _) in zip(self._pieces, wholes, strict=True):
                memory[self._shard.begin : self._shard.end] = piece
                self._shard.gather(memory)
            return self._state(tuple(self._load(arrays) for _, arrays in wholes))

    def restore(self, state: State) -> None:
        """Go on from a state, bit for bit, on as many ranks or on another number of them; every rank makes this call.

        Raises
        ------
        InvalidValue
            If it is the state of another program, or of another optimiser.
        RankError
            If it is that on another rank, or if ranks do not have the same state.
        """

        def prepared() -> tuple[list[tuple[Array, tuple[Array, ...]]], str]:
            ready = self._prepared(state)
            moments = (array for arrays in state.moments for array in arrays)
            return ready, _digest((*state.params, *moments, state.steps))

        with self._interrupts, self._lock:
            ready, found = together(self._comm, "restore", prepared)
            agree(self._comm, "restore", {"the state's SHA-256": found})
            put(self._copies(ready), self._rule, int(state.steps))

    def _copies(self, ready: Sequence[tuple[Array, tuple[Array, ...]]]) -> Array:
        if not self._sharded:
            return super()._copies(ready)
        own = slice(self._shard.begin, self._shard.end)
        (params, _), *moments = ready
        pieces = [(memory[own], piece) for piece, (memory, _) in zip(self._pieces, moments, strict=True)]
        return copies([(params, self._memory), *pieces])

    def profile(self, *inputs: ArrayLike, times: int = 20) -> str:
        """As :meth:`Step.profile`, of this rank's instructions up to the gradients, without the other ranks."""
        return self._profile(inputs, times)

    def _kept(self) -> tuple[Array, ...]:
        if not self._sharded:
            return super()._kept()
        size = (self._shard.end - self._shard.begin) * self._memory.itemsize
        piece = aligned(size).view(self._memory.dtype)
        self._pieces.append(piece)
        found = []
        for array, own in zip(self._params, self._own(), strict=True):
            begin = self._begin(array) + own.start - self._shard.begin
            found.append(piece[begin : begin + own.stop - own.start] if own.stop > own.start else piece[:0])
        return tuple(found)

    @cached_property
    def _shard(self) -> Shard:
        return Shard(self._comm, self._memory.size, PANEL_ROW_BYTES // self._memory.itemsize)

    def _begin(self, array: Array) -> int:
        """Return where a parameter begins in the block of all of them."""
        return int(array.ctypes.data - self._memory.ctypes.data) // self._memory.itemsize

    def _own(self) -> list[slice]:
        """Return which elements of each parameter this rank updates."""
        if not self._sharded:
            return [slice(0, array.size) for array in self._params]
        return [self._shard.span(self._begin(array), array.size) for array in self._params]

    def _lowered(self, shapes: Shapes) -> tuple[list[Instruction], Symbol]:
        rows = shapes[0][0] if shapes[0] else 1
        instructions, output = self._source.instructions(shapes, SEPARATE, float(rows))
        return gradients(instructions, len(self._source.params), self._source.dtype), output

    def _chosen(self, instructions: list[Instruction]) -> dict[int, Panels]:
        """A parameter lies in panels if a product makes its gradient, which then lies there too; clipped, none does."""
        count = len(self._source.params)
        made = {one.results["out"].buffer.index for one in instructions if isinstance(one, Matmul)}
        chosen = {} if self._optimizer.clip_norm is not None else super()._chosen(instructions)
        return {index: panels for index, panels in chosen.items() if index < count and count + index in made}

    def _made(self, instructions: list[Instruction], output: Symbol, shapes: Shapes, threads: int) -> Plan:
        if not self._gradients:
            self._reduced, self._gradients = self._blocks(HEADER_NUMBERS)
            self._sums = Buckets(self._comm, self._reduced, self._gradients[1:], self._bucket)
        count = len(self._source.params)
        layouts = self._layouts | {count + index: panels for index, panels in self._layouts.items()}
        arrays = (*self._params, *self._gradients[1:])
        held = Holdings(arrays, layouts, seeds=self._seeds)
        made = plan(instructions, output, shapes, self._source.dtype, threads, held)
        made.cuts = complete(made.planned, count, self._sums.firsts)
        return made

    def _update(self) -> Plan:
        """The update of this rank's share of the parameters, or all, from their gradients, wherever they lie."""
        threads = get_num_threads()
        if threads not in self._updates:
            build = Builder(self._source.dtype)
            count = len(self._params)
            shares = self._own()
            parts = [
                array[own]
                for arrays in (self._params, self._gradients[1:])
                for array, own in zip(arrays, shares, strict=True)
            ]
            arrays = (*parts, *self._gradients[1:])
            flat = [
                Symbol((array.size,), (1,), Buffer("parameter", array.size, index))
                for index, array in enumerate(arrays)
            ]
            scale = Symbol((), (), Buffer("constant", 1, array=self._scale))
            if self._optimizer.clip_norm is not None:
                scale = build.clipping(flat[2 * count :], self._optimizer.clip_norm)
            moments = len(self._optimizer.slots)
            updates = [
                Update(operands={"grad": grad, "scale": scale, "w": w}, results={"w": w}, moments=moments)
                for w, grad in zip(flat[:count], flat[count : 2 * count], strict=True)
                if w.size
            ]
            held = Holdings(arrays, moments=self._moments, rule=self._rule)
            instructions = [*build.instructions, *updates]
            self._updates[threads] = plan(instructions, flat[0], (), self._source.dtype, threads, held)
        return self._updates[threads]
