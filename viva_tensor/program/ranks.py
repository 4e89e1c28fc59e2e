"""A step whose gradients are averaged over the ranks of an MPI communicator, between backward and update.

Each rank multiplies its gradients by its number of rows, in one block that begins with the loss and the number of rows.
The block is summed over the ranks in place, and the update divides by the rows of all ranks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from viva_tensor._version import __version__
from viva_tensor.distributed.agreement import digest, digests, fail_together, local_slice, raise_on_all, require_equal
from viva_tensor.distributed.clock import Clock, Times
from viva_tensor.distributed.interrupts import Interrupts
from viva_tensor.distributed.reducer import BUCKET, HEADER_SIZE, GradientReducer, Header
from viva_tensor.error import InvalidValue, RankError
from viva_tensor.kernels.arrays import Array
from viva_tensor.kernels.build import isa
from viva_tensor.optim import Averaging, Optimizer
from viva_tensor.program._executor import put
from viva_tensor.program.accumulation import AccumulatingStep
from viva_tensor.program.run import Run
from viva_tensor.program.source import Part, Source
from viva_tensor.program.store import Block, ParameterStore, State

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

SAMPLED = 64  # shared rows that are compared before each run


def _recorded(source: Source) -> str:
    """Return a digest of what is recorded: operations and what each is applied to, whatever the rows of the batch."""
    places = {node.output.id: place for place, node in enumerate(source.nodes)}
    lines = [(node.operation.name, *(places[variable.id] for variable in node.inputs)) for node in source.nodes]
    return digest(str(lines).encode())


def _digest(arrays: Iterable[ArrayLike]) -> str:
    return hashlib.sha256(b"".join(np.asarray(array).tobytes() for array in arrays)).hexdigest()


class RankStep(AccumulatingStep):
    """A step on the rows of one rank, with the loss and the update of all rows of all ranks.

    :func:`viva_tensor.program.compile_step` makes it if given ``comm``. All ranks begin with the parameters of rank 0
    and use its learning rate in each step, so parameters have the same bits on every rank.

    Every rank makes the same calls in the same order: steps and runs, :meth:`restore`, and :meth:`state` if the
    optimiser's state is sharded. If one rank cannot go on, because of its rows, its memory, a schedule, a callback or
    Ctrl-C, no rank makes the step and all raise. A rank that ends between two calls is not noticed here.

    Only the calling thread uses MPI, so THREAD_FUNNELED is enough.
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
        average: Averaging | None = None,
        micro_batch: int | None = None,
    ) -> None:
        from mpi4py import MPI

        self._comm = comm
        self._bucket = BUCKET if overlap else 0
        self._sharing = comm if shard_state else None
        self._interrupts = Interrupts()
        self._clock = Clock()
        self._asked = self._timing = False
        self._failure: BaseException | None = None
        level = min(comm.allgather(MPI.Query_thread()))
        if level < MPI.THREAD_FUNNELED:
            raise RankError(
                "MPI was started for programs without threads",
                operation="compile_step",
                hint='set mpi4py.rc.thread_level = "funneled" before mpi4py.MPI is first imported',
            )
        require_equal(
            comm,
            "compile_step",
            {
                "viva_tensor": __version__,
                "numpy": np.__version__,
                "the instruction set (VIVA_TENSOR_ISA)": isa,
                "dtype": source.dtype,
                "the parameters' shapes": [variable.data.shape for variable in source.params],
                "the inputs' shapes": [variable.data.shape[1:] for variable in source.inputs],
                "the digest of the recorded operations": _recorded(source),
                "optimizer": optimizer,
                "factors": source.factors,
                "overlap": bool(overlap),
                "shard_state": bool(shard_state),
                "average": average,
            },
        )
        with fail_together(comm, "compile_step"):
            super().__init__(source, params, optimizer, rng, average, micro_batch)
        require_equal(comm, "compile_step", {"the layout of parameters": self._store.layouts})
        comm.Bcast(self._store.params.memory)
        if average is not None:
            self._store.start_average()
        require_equal(comm, "compile_step", {"parameters": self.fingerprint()})

    def fingerprint(self) -> str:
        """Return the SHA-256 of all parameters, in hexadecimal: the same on every rank."""
        with self._lock:
            return _digest(self._store.values())

    def _new_gradients(self, store: ParameterStore) -> Block:
        """Return memory for the gradients that the reducer sums over the ranks."""
        block = store.block(HEADER_SIZE)
        self._reducer = GradientReducer(self._comm, *block, self._bucket)
        self._firsts = self._reducer.firsts
        return Block(block.memory, block.arrays[1:])

    def __call__(self, *inputs: ArrayLike) -> float:
        """Make one step on this rank's rows, which may be none if others have some; return the loss of all rows.

        Raises
        ------
        ShapeMismatch, DimensionError, DtypeError
            If the inputs are not like the recorded ones. Nothing is then changed on any rank.
        InvalidValue
            If no rank has any rows.
        RankError
            If another rank failed.
        """
        with self._interrupts:
            return self._step_together(lambda: inputs)[0]

    def _train(self, checked: Callable[[], Run]) -> list[float]:
        def called(epoch: int, loss: float) -> None:
            try:
                if run.callback is not None:
                    self._interrupts.interruptible(run.callback, epoch, loss)
            except BaseException as error:  # the other ranks are already in the next step
                self._failure = error

        with self._interrupts:
            with fail_together(self._comm, "step"):
                run = checked()
                settings = self._shared_settings(run)
            require_equal(self._comm, "run", settings)
            losses = self._epochs(replace(run, callback=called))
            with fail_together(self._comm, "step"):
                self._raise_pending()
        return losses

    def _shared_settings(self, run: Run) -> dict[str, object]:
        """Return the settings of a run that must be equal on all ranks."""
        settings: dict[str, object] = {"epochs": run.epochs, "shared": run.shared, "rates": self._rates}
        if run.shared:
            if not (run.rng is None or isinstance(run.rng, np.random.Generator)):
                hint = "give np.random.default_rng(seed), with the same seed on every rank"
                raise InvalidValue(f"shared rows with rng of type {type(run.rng).__name__}", operation="run", hint=hint)
            settings |= digests(SAMPLED, **{f"input {i}": array for i, array in enumerate(run.arrays)}) | {
                "batch_size": run.batch_size,
                "the number of rows": len(run.arrays[0]),
                "the rows": None if run.chosen is None else hashlib.sha256(run.chosen.data).hexdigest(),
                "rng": None if run.rng is None else run.rng.bit_generator.state,
            }
        return settings

    def _raise_pending(self) -> None:
        """Raise a failure that happened between two steps, or act on a held Ctrl-C."""
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        self._interrupts.check()

    def _epoch(self, run: Run) -> float:
        order = None
        try:
            order = run.order()
        except BaseException as error:  # the other ranks are already in the next step
            self._failure = error
        size = run.batch_size
        steps = max(self._comm.allgather(-(-run.count // size)))
        total = seen = 0.0
        for begin in range(0, steps * size, size):

            def batch(begin: int = begin) -> list[Array]:
                if run.schedule is not None:
                    self._set(self._interrupts.interruptible(run.schedule, self.steps + 1), self.steps + 1)
                rows = slice(begin, min(begin + size, run.count))
                if run.shared:
                    local = local_slice(rows.stop - begin, self._comm.rank, self._comm.size)
                    rows = slice(begin + local.start, begin + local.stop)
                chosen: Any = rows if order is None else order[rows]
                return [array[chosen] for array in run.arrays]

            loss, count = self._step_together(batch)
            total += loss * count
            seen += count
        return total / seen

    def _step_together(self, batch: Callable[[], Sequence[ArrayLike]]) -> tuple[float, float]:
        """Make one step with all ranks; return the loss of all rows, and their number. Ctrl-C must be held back."""
        clock, reducer = self._clock, self._reducer
        clock.begin(self._timing)
        drawn: Any = None if self._rng is None else self._rng.bit_generator.state
        inputs: Sequence[ArrayLike] = ()
        failure: BaseException | None = None
        loss, rows = 0.0, 0
        try:
            self._raise_pending()
            inputs = batch()
        except BaseException as error:
            self._failure = error
        with self._lock, np.errstate(all="ignore"):
            try:
                self._raise_pending()
                update = self._update().executor
                loss, rows = self._backward(inputs)
            except BaseException as error:
                failure, loss, rows = error, 0.0, 0
            reducer.start_all_but_last()
            clock.count("compute")
            if clock.running:
                self._comm.Barrier()
                clock.count("wait")
            own = (self._rule.lr, self._rule.decay) if self._comm.rank == 0 else (0.0, 0.0)
            Header(loss * rows, rows, failure is not None, self._asked, *own).write(reducer.header)
            reducer.finish()
            clock.count("reduce")
            total = Header.read(reducer.header)
            self._timing = total.timed > 0
            if total.failed or not total.rows:
                if self._rng is not None:
                    self._rng.bit_generator.state = drawn
                raise_on_all(self._comm, "step", failure)
                raise InvalidValue("no rank has any rows", operation="step")
            self._rule.lr, self._rule.decay = total.rate, total.decay
            self._apply(update, total.rows)
            clock.count("compute")
            if self._store.shard is not None:
                self._store.shard.gather(self._store.params.memory)
                clock.count("reduce")
            clock.end()
        return total.loss / total.rows, total.rows

    def _backward(self, inputs: Sequence[ArrayLike]) -> tuple[float, int]:
        """Compute this rank's gradients and start their sums; return the loss, and the number of rows."""
        loss, rows = super()._backward(inputs)
        if not rows:
            self._reducer.memory[:] = 0
        return loss, rows

    def _run_part(self, part: Part, alone: bool) -> float:
        """Compute the gradients of a part of a batch, whose sums begin as they are made if it is the only one."""
        planned = self._plans.at(part.shapes)
        executor, begin = planned.executor, 0
        for end in planned.cuts if alone else ():
            if end > begin:
                executor.run(part.arrays, True, begin, end)
            self._reducer.start()
            self._interrupts.check()
            begin = end
        loss = executor.run(part.arrays, True, begin, executor.calls())
        assert loss is not None  # arrays are plain, and of these shapes
        return loss

    @property
    def timed(self) -> bool:
        """Whether this rank asks for :meth:`times`; setting it resets them.

        If any rank asks, each step from the next but one on is timed on all ranks, with a barrier before its sums that
        separates waiting from reducing.
        """
        return self._asked

    @timed.setter
    def timed(self, value: bool) -> None:
        self._asked = bool(value)
        self._clock = Clock()

    def times(self) -> Times:
        """Return this rank's times over the steps that were :attr:`timed`."""
        return self._clock.times()

    def __reduce__(self) -> tuple[Any, ...]:
        hint = "pickle its state(), and compile the step on each rank"
        raise InvalidValue("a step of several ranks belongs to them", operation="pickle", hint=hint)

    def state(self) -> State:
        """Return a copy of all that a step changes; if the optimiser's state is sharded, every rank makes this call."""
        shard = self._store.shard
        if shard is None:
            return super().state()
        with self._interrupts, self._lock:
            with fail_together(self._comm, "state"):
                wholes = self._store.whole_moments()
            for whole in wholes:
                shard.gather(whole.memory)
            return self._store.state(self.steps, wholes)

    def restore(self, state: State) -> None:
        """As :meth:`Step.restore`, on any number of ranks; every rank makes this call.

        Raises
        ------
        InvalidValue
            If it is the state of another program, or of another optimiser.
        RankError
            If another rank raises InvalidValue, or if ranks do not have the same state.
        """
        with self._interrupts, self._lock:
            with fail_together(self._comm, "restore"):
                ready = self._store.prepared(state)
                moments = (array for arrays in state.moments for array in arrays)
                digest = _digest((*state.params, *moments, state.steps))
            require_equal(self._comm, "restore", {"the state's SHA-256": digest})
            put(self._store.copies(ready), self._rule, int(state.steps))

    def profile(self, *inputs: ArrayLike, times: int = 20) -> str:
        """As :meth:`Step.profile`, for this rank's instructions up to the gradients, without the other ranks."""
        return self._profile(inputs, times)
