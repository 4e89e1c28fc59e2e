"""A step in two programs: gradients, added up over the parts of a batch, and the update."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from viva_tensor import kernels
from viva_tensor.error import InvalidValue
from viva_tensor.kernels.arrays import Array
from viva_tensor.kernels.threads import get_num_threads
from viva_tensor.optim import Averaging, Optimizer
from viva_tensor.program._executor import Executor
from viva_tensor.program.builder import Builder
from viva_tensor.program.emission import Holdings
from viva_tensor.program.gradients import SEPARATE, complete, gradients, layouts_with_gradients
from viva_tensor.program.instructions import Buffer, Instruction, Shapes, Symbol
from viva_tensor.program.planning import Plan, Plans, plan
from viva_tensor.program.run import Run
from viva_tensor.program.source import Part, Source
from viva_tensor.program.step import Step
from viva_tensor.program.store import Block, ParameterStore

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm


class AccumulatingStep(Step):
    """A step on batches that are computed in parts of at most ``micro_batch`` rows, with one update for all of them.

    :func:`viva_tensor.program.compile_step` makes it if given ``micro_batch``. The gradients of each part are those of
    its loss times its number of rows; their sum over the parts, divided by the rows of the batch, makes the update.
    """

    _sharing: Intracomm | None = None  # the ranks that share the optimiser's state

    def __init__(
        self,
        source: Source,
        params: Any,
        optimizer: Optimizer,
        rng: np.random.Generator | None,
        average: Averaging | None,
        micro_batch: int | None,
    ) -> None:
        self._micro_batch = micro_batch
        self._firsts: list[int] = []  # the first gradient of each group that is complete before the others
        self._scale = np.ones((), source.dtype)
        self._updates: dict[int, Plan] = {}
        self._sums: Array | None = None  # of the gradients of all parts so far
        self._latest: tuple[float, ...] = (np.nan,) * max(len(source.outputs) - 1, 1)
        super().__init__(source, params, optimizer, rng, average)

    def _made(self) -> tuple[Any, ...]:
        return (*super()._made(), self._micro_batch)

    def _compiled(self, shapes: Shapes) -> tuple[ParameterStore, Plans]:
        """Return parameters and moments, and plans up to the gradients, which have memory of their own."""
        source, optimizer = self._source, self._optimizer
        count = len(source.params)
        batch = [np.broadcast_to(np.empty((), source.dtype), shape) for shape in shapes]
        shapes = next((part.shapes for part in source.parts(batch, self._micro_batch)), shapes)
        lowered = self._lowered(shapes)
        clipped = optimizer.clip_norm is not None  # the norm is of gradients in rows
        layouts = {} if clipped else layouts_with_gradients(lowered[0], count, source.dtype)
        store = ParameterStore(source, layouts, optimizer, self._sharing, averaged=self._averaging is not None)
        self._gradients = self._new_gradients(store)
        layouts = layouts | {count + index: panels for index, panels in layouts.items()}
        arrays = (*store.params.arrays, *self._gradients.arrays)
        held = Holdings(arrays, layouts, seeds=self._seeds, dropout_factor=self._dropout_factor)
        firsts = self._firsts
        plans = Plans(self._lowered, source.dtype, held, lambda planned: complete(planned, count, firsts))
        plans.at(shapes, lowered)
        return store, plans

    def _new_gradients(self, store: ParameterStore) -> Block:
        """Return memory for the gradients."""
        return store.block()

    def _lowered(self, shapes: Shapes) -> tuple[list[Instruction], Symbol]:
        """Return the instructions up to the gradients, times the number of rows, and the loss."""
        rows = shapes[0][0] if shapes[0] else 1
        instructions, output = self._source.instructions(shapes, SEPARATE, float(rows))
        return gradients(instructions, len(self._source.params), self._source.dtype), output

    def __call__(self, *inputs: ArrayLike) -> float:
        """Make one step on a batch of any number of rows, in parts; return the mean of their losses over the rows.

        Raises
        ------
        ShapeMismatch, DimensionError, DtypeError
            If the inputs are not like the recorded ones. Nothing is then changed.
        InvalidValue
            If there are no rows.
        """
        drawn: Any = None if self._rng is None else self._rng.bit_generator.state
        with self._lock, np.errstate(all="ignore"):
            try:
                update = self._update().executor
                loss, rows = self._backward(inputs)
                if not rows:
                    raise InvalidValue("a batch without rows", operation="step", hint="give at least one row")
            except BaseException:
                if self._rng is not None:
                    self._rng.bit_generator.state = drawn
                raise
            self._apply(update, rows)
        return loss

    def _epoch(self, run: Run) -> float:
        order, size = run.order(), run.batch_size
        total = 0.0
        for begin in range(0, run.count, size):
            rows = slice(begin, min(begin + size, run.count))
            chosen: Any = rows if order is None else order[rows]
            batch = [array[chosen] for array in run.arrays]
            with self._lock:
                if run.schedule is not None:
                    self._set(run.schedule(self.steps + 1), self.steps + 1)
                total += (rows.stop - begin) * self(*batch)
        return total / run.count

    def _backward(self, inputs: Sequence[ArrayLike]) -> tuple[float, int]:
        """Compute the sum of the gradients of all rows; return the mean loss and the number of rows."""
        arrays = self._source.arrays("step", inputs)
        self._source.shapes("step", arrays)
        parts = self._source.parts(arrays, self._micro_batch)
        total = seen = 0.0
        losses = np.zeros(len(self._latest))
        if not parts:
            self._draw()  # a rank without rows draws, too
        for part in parts:
            self._draw()
            loss = self._run_part(part, alone=len(parts) == 1)
            seen += part.rows
            total += part.rows * loss
            losses += part.rows * np.array(self._losses_of(self._plans.current))
            if len(parts) > 1:
                self._add(first=part is parts[0], last=part is parts[-1])
        if seen:
            self._latest = tuple((losses / seen).tolist())
        return (total / seen if seen else 0.0), int(seen)

    def _run_part(self, part: Part, alone: bool) -> float:
        """Compute the gradients of a part of a batch; return its loss."""
        loss = None
        while loss is None:  # again if another thread has changed the number of threads
            loss = self._plans.at(part.shapes).executor.run(part.arrays, True)
        return loss

    def _add(self, first: bool, last: bool) -> None:
        """Add the gradients of a part to those of the parts before; after the last one the sum is where they were."""
        memory = self._gradients.memory
        if first:
            self._sums = self._sums if self._sums is not None else np.empty_like(memory)
            self._sums[...] = memory
        else:
            assert self._sums is not None
            kernels.add(self._sums, memory, out=memory if last else self._sums)

    def _apply(self, update: Executor, rows: float) -> None:
        """Update the parameters by the sum of the gradients of so many rows."""
        self._scale[...] = 1 / rows
        if self._optimizer.clip_norm is not None:
            self._gradients.memory[...] *= self._scale  # clipping needs the norm of the mean
        update.run((), True, 0, update.calls())
        self._average()

    @property
    def losses(self) -> tuple[float, ...]:
        """Each loss given to ``compile_step``, of the latest step on the rows given here; NaN before the first step."""
        with self._lock:
            return self._latest

    def _update(self) -> Plan:
        """Return the plan of the update of this rank's shard of the parameters, or of all."""
        threads = get_num_threads()
        if threads not in self._updates:
            store, whole, optimizer = self._store, self._gradients.arrays, self._optimizer
            arrays = (*store.local(store.params.arrays), *store.local(whole), *whole)
            symbols = [
                Symbol((array.size,), (1,), Buffer("parameter", array.size, index))
                for index, array in enumerate(arrays)
            ]
            count = len(whole)
            build = Builder(self._source.dtype)
            scale = Symbol((), (), Buffer("constant", 1, array=self._scale))
            if optimizer.clip_norm is not None:
                scale = build.clipping(symbols[2 * count :], optimizer.clip_norm)
            updated = [index for index in range(count) if arrays[index].size]
            grads, params = [symbols[count + index] for index in updated], [symbols[index] for index in updated]
            build.updates(grads, params, scale, optimizer)
            factors = self._source.factors
            held = Holdings(arrays, moments=store.moments, rule=self._rule, factors=factors)
            self._updates[threads] = plan(build.instructions, symbols[0], (), self._source.dtype, threads, held)
        return self._updates[threads]
