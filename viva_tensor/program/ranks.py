"""A step whose gradients are averaged over the ranks of an MPI communicator, between backward and update.

Each rank makes its gradients times its number of rows, all in one block that begins with the loss and the number of
rows; sums over the ranks in place, and the update divides by the rows of all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from viva_tensor._version import __version__
from viva_tensor.distributed.agreement import agree, part, raise_on_all, together
from viva_tensor.distributed.clock import Clock, Times
from viva_tensor.distributed.interrupts import Interrupts
from viva_tensor.distributed.reducer import BUCKET, GradientReducer, Header, Told
from viva_tensor.error import InvalidValue, RankError
from viva_tensor.kernels import _dispatch
from viva_tensor.kernels.arrays import Array
from viva_tensor.kernels.threads import get_num_threads
from viva_tensor.optim import Optimizer
from viva_tensor.program._executor import put
from viva_tensor.program.builder import Builder
from viva_tensor.program.emission import Holdings
from viva_tensor.program.gradients import SEPARATE, complete, gradients, layouts_with_gradients
from viva_tensor.program.instructions import Buffer, Instruction, Shapes, Symbol
from viva_tensor.program.planning import Plan, Plans, plan
from viva_tensor.program.run import Run
from viva_tensor.program.source import Source
from viva_tensor.program.step import Step
from viva_tensor.program.store import Block, ParameterStore, State

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm


def _digest(arrays: Iterable[ArrayLike]) -> str:
    return hashlib.sha256(b"".join(np.asarray(array).tobytes() for array in arrays)).hexdigest()


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
        agree(comm, "compile_step", {"the layout of parameters": self._store.layouts})
        comm.Bcast(self._store.params.memory)
        agree(comm, "compile_step", {"parameters": self.fingerprint()})

    def fingerprint(self) -> str:
        """The SHA-256 of all parameters, in hexadecimal: the same on every rank."""
        with self._lock:
            return _digest(self._store.values())

    def _compiled(self, shapes: Shapes) -> tuple[ParameterStore, Plans]:
        """Return memory for what is trained, and plans up to the gradients, which lie in the reducer's memory."""
        source, optimizer = self._source, self._optimizer
        count = len(source.params)
        lowered = self._lowered(shapes)
        clipped = optimizer.clip_norm is not None  # the norm is of gradients in rows
        layouts = {} if clipped else layouts_with_gradients(lowered[0], count, source.dtype)
        store = ParameterStore(source, layouts, optimizer, self._comm if self._sharded else None)
        self._reducer = GradientReducer(self._comm, *store.block(Header.SIZE), self._bucket)
        layouts = layouts | {count + index: panels for index, panels in layouts.items()}
        held = Holdings((*store.params.arrays, *self._reducer.gradients), layouts, seeds=self._seeds)
        firsts = self._reducer.firsts
        plans = Plans(self._lowered, source.dtype, held, lambda planned: complete(planned, count, firsts))
        plans.at(shapes, lowered)
        return store, plans

    def _lowered(self, shapes: Shapes) -> tuple[list[Instruction], Symbol]:
        """Lower the step up to the gradients, times this rank's rows, and the loss."""
        rows = shapes[0][0] if shapes[0] else 1
        instructions, output = self._source.instructions(shapes, SEPARATE, float(rows))
        return gradients(instructions, len(self._source.params), self._source.dtype), output

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
        clock, reducer = self._clock, self._reducer
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
            reducer.start_all_but_last()
            clock.count("compute")
            if clock.running:
                self._comm.Barrier()
                clock.count("wait")
            rate = self._rule.lr if self._comm.rank == 0 else 0.0
            reducer.header.write(Told(loss * rows, rows, failure is not None, self._asked, rate))
            reducer.finish()
            clock.count("reduce")
            told = reducer.header.read()
            self._timing = told.timed > 0
            if told.failed or not told.rows:
                if self._rng is not None:
                    self._rng.bit_generator.state = drawn
                raise_on_all(self._comm, "step", failure)
                raise InvalidValue("no rank has any rows", operation="step")
            self._rule.lr = told.rate
            self._scale[...] = 1 / told.rows
            if self._optimizer.clip_norm is not None:
                reducer.memory *= self._scale  # its norm is what is clipped
            update.run((), True, 0, update.calls())
            clock.count("compute")
            if self._store.shard is not None:
                self._store.shard.gather(self._store.params.memory)
                clock.count("reduce")
            clock.end()
        return told.loss / told.rows, told.rows

    def _backward(self, inputs: Sequence[ArrayLike]) -> tuple[float, int]:
        """Put this rank's gradients into the block, and send its buckets off; the loss, and the number of rows."""
        arrays = self._source.arrays("step", inputs)
        shapes = self._source.shapes("step", arrays)
        rows = shapes[0][0] if shapes[0] else 1
        self._draw()
        if not rows:
            self._reducer.memory[:] = 0
            return 0.0, 0
        found = self._plans.at(shapes)
        begin = 0
        for end in found.cuts:
            if end > begin:
                found.executor.run(arrays, True, begin, end)
            self._reducer.start()
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
        shard = self._store.shard
        if shard is None:
            return super().state()
        with self._interrupts, self._lock:
            wholes = together(self._comm, "state", self._store.whole_moments)
            for whole in wholes:
                shard.gather(whole.memory)
            return self._store.state(self.steps, wholes)

    def restore(self, state: State) -> None:
        """Go on from a state, bit for bit, on as many ranks or on another number of them; every rank makes this call.

        Raises
        ------
        InvalidValue
            If it is the state of another program, or of another optimiser.
        RankError
            If it is that on another rank, or if ranks do not have the same state.
        """

        def prepared() -> tuple[list[Block], str]:
            ready = self._store.prepared(state)
            moments = (array for arrays in state.moments for array in arrays)
            return ready, _digest((*state.params, *moments, state.steps))

        with self._interrupts, self._lock:
            ready, found = together(self._comm, "restore", prepared)
            agree(self._comm, "restore", {"the state's SHA-256": found})
            put(self._store.copies(ready), self._rule, int(state.steps))

    def profile(self, *inputs: ArrayLike, times: int = 20) -> str:
        """As :meth:`Step.profile`, of this rank's instructions up to the gradients, without the other ranks."""
        return self._profile(inputs, times)

    def _update(self) -> Plan:
        """Plan the update of this rank's share of the parameters, or all, from their gradients, wherever they lie."""
        threads = get_num_threads()
        if threads not in self._updates:
            store, whole, optimizer = self._store, self._reducer.gradients, self._optimizer
            dtype = self._source.dtype
            arrays = (*store.local(store.params.arrays), *store.local(whole), *whole)
            symbols = [
                Symbol((array.size,), (1,), Buffer("parameter", array.size, index))
                for index, array in enumerate(arrays)
            ]
            count = len(whole)
            build = Builder(dtype)
            scale = Symbol((), (), Buffer("constant", 1, array=self._scale))
            if optimizer.clip_norm is not None:
                scale = build.clipping(symbols[2 * count :], optimizer.clip_norm)
            updated = [index for index in range(count) if arrays[index].size]
            grads, params = [symbols[count + index] for index in updated], [symbols[index] for index in updated]
            build.updates(grads, params, scale, optimizer)
            held = Holdings(arrays, moments=store.moments, rule=self._rule)
            self._updates[threads] = plan(build.instructions, symbols[0], (), dtype, threads, held)
        return self._updates[threads]
