"""A recorded step, compiled: the whole of forward, loss, backward and update in one call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from viva_tensor.autograd import Tape, Traced, Variable, new_variable
from viva_tensor.error import InvalidValue
from viva_tensor.kernels import _matmul
from viva_tensor.kernels.arrays import Array, as_array
from viva_tensor.kernels.checks import check_count, flag, is_step_count
from viva_tensor.kernels.threads import get_num_threads
from viva_tensor.optim import Optimizer, replaced
from viva_tensor.program import report
from viva_tensor.program._executor import Guard, put
from viva_tensor.program.emission import Holdings
from viva_tensor.program.instructions import Instruction, Symbol
from viva_tensor.program.layouts import Panels, of_parameters
from viva_tensor.program.memory import aligned
from viva_tensor.program.planning import MOST_PLANS, Plan, plan
from viva_tensor.program.scheduling import Planned
from viva_tensor.program.source import Shapes, Source

PANEL_ROW_BYTES = 128  # bytes of the widest panel's row
assert all(_matmul.tile(kind)[1] * np.dtype(kind).itemsize <= PANEL_ROW_BYTES for kind in "fd")


class State(NamedTuple):
    """All that a step changes: copies of its parameters, the optimiser's moments, and the number of steps made.

    Moments and the name of the optimiser's class are those of :class:`viva_tensor.optim.State`: for each kind of moment
    a tuple of arrays, one for each parameter.
    """

    params: tuple[Array, ...]
    moments: tuple[tuple[Array, ...], ...]
    steps: int
    optimizer: str | None = None


@dataclass(frozen=True)
class Run:
    """What :meth:`Step.run` trains on and how, checked."""

    arrays: list[Array]  # all rows of each input
    chosen: Array | None  # numbers of the rows to train on; None: all
    batch_size: int
    epochs: int
    rng: np.random.Generator | None  # None: the rows in their order
    schedule: Callable[[int], float] | None
    callback: Callable[[int, float], object] | None
    shared: bool

    @property
    def count(self) -> int:
        """Rows in an epoch."""
        return len(self.arrays[0]) if self.chosen is None else len(self.chosen)

    def order(self) -> Array | None:
        """Draw the numbers of rows in the order of one epoch; None: as they lie."""
        if self.rng is None:
            return self.chosen
        order = self.rng.permutation(self.count)
        if type(self.rng) is not np.random.Generator:  # whatever has a method of this name
            order = chosen_rows("run", order, self.count)
            if len(order) != self.count:
                got = f"a permutation of {len(order)} rows, wanted {self.count}"
                raise InvalidValue(got, operation="run", hint="give rng=np.random.default_rng(seed)")
        return order if self.chosen is None else self.chosen[order]


class Step:
    """One training step as a program; made by :func:`viva_tensor.program.compile_step`.

    Calling it with a batch runs forward, loss, backward and update, and gives the loss before the update. It owns the
    parameters from then on; :meth:`params` hands back their values. ``print(step)`` shows the program.
    """

    def __init__(
        self, source: Source, params: Any, optimizer: Optimizer, rng: np.random.Generator | None = None
    ) -> None:
        self._source = source
        self._tree = params
        self._optimizer = optimizer
        self._rule = optimizer.rule()
        self._lock = Guard()
        self._rng = rng
        self._seeds = np.zeros(len(source.seeds), np.uint64)
        self._plans: dict[tuple[Shapes, int], Plan] = {}
        self._shapes: Shapes = tuple(variable.data.shape for variable in source.inputs)
        lowered = self._lowered(self._shapes)
        self._layouts = self._chosen(lowered[0])
        self._memory, self._params = self._blocks()
        self._moments = {slot: self._kept() for slot in optimizer.slots}
        self._store(self._params, [variable.data for variable in source.params])
        self._current = self._plan(self._shapes, lowered)

    def _lowered(self, shapes: Shapes) -> tuple[list[Instruction], Symbol]:
        """The instructions, and the symbol of the loss."""
        return self._source.instructions(shapes)

    def _chosen(self, instructions: list[Instruction]) -> dict[int, Panels]:
        """The parameters that lie in panels."""
        return of_parameters(instructions, self._source.dtype)

    def _kept(self) -> tuple[Array, ...]:
        """Room for one number beside each parameter's: a kind of the optimiser's moments."""
        return self._blocks()[1]

    def _blocks(self, more: int = 0) -> tuple[Array, tuple[Array, ...]]:
        """Memory for the parameters as one array, and flat arrays one after another in it, each from a cache line on.

        Behind each lie zeros to the end of a panel, for biases that are added to whole panels. `more` elements come
        first, as an array of their own.
        """
        counts = [variable.data.size for variable in self._source.params]
        for index, panels in self._layouts.items():
            counts[index] = panels.size
        counts = [more] * bool(more) + counts
        dtype = self._source.dtype
        sizes = (count * dtype.itemsize + 2 * PANEL_ROW_BYTES for count in counts)
        starts = [0, *accumulate(size // PANEL_ROW_BYTES * PANEL_ROW_BYTES for size in sizes)]
        block = aligned(starts[-1]).view(dtype)
        begins = (start // dtype.itemsize for start in starts)
        return block, tuple(block[begin : begin + count] for begin, count in zip(begins, counts, strict=False))

    def _store(self, block: Sequence[Array], values: Sequence[Array]) -> None:
        for index, (flat, value) in enumerate(zip(block, values, strict=True)):
            if index in self._layouts:
                self._layouts[index].store(np.asarray(value), flat)
            else:
                flat[...] = np.ravel(value)

    def _load(self, block: Sequence[Array]) -> tuple[Array, ...]:
        """Copies, in rows."""
        return tuple(
            self._layouts[index].load(flat) if index in self._layouts else flat.reshape(variable.data.shape).copy()
            for index, (flat, variable) in enumerate(zip(block, self._source.params, strict=False))
        )

    def _plan(self, shapes: Shapes, lowered: tuple[list[Instruction], Symbol] | None = None) -> Plan:
        """The plan for these shapes and the threads in force, made once; `lowered` are its instructions, if known."""
        threads = get_num_threads()
        found = self._plans.get((shapes, threads))
        if found is None:
            instructions, output = lowered or self._lowered(shapes)
            found = self._made(instructions, output, shapes, threads)
            if len(self._plans) >= MOST_PLANS:
                self._plans.pop(next(iter(self._plans)))
            self._plans[shapes, threads] = found
        self._current, self._shapes = found, shapes
        return found

    def _made(self, instructions: list[Instruction], output: Symbol, shapes: Shapes, threads: int) -> Plan:
        held = Holdings(self._params, self._layouts, self._moments, self._rule, self._lock, self._seeds)
        return plan(instructions, output, shapes, self._source.dtype, threads, held)

    def __call__(self, *inputs: ArrayLike) -> float:
        """Make one step on a batch.

        Parameters
        ----------
        *inputs : array_like
            In the order of ``compile_step(inputs=...)``. Contiguous arrays of the recorded dtype are read where they
            lie. The number of rows may differ from the recorded one; each is planned once.

        Returns
        -------
        float
            The loss, before the update.

        Raises
        ------
        ShapeMismatch, DimensionError, DtypeError
            If the inputs are not like the recorded ones. Nothing is changed then.
        """
        loss = self._current.executor.run(inputs) if self._rng is None else None
        if loss is None:
            arrays = tuple(np.ascontiguousarray(as_array("step", one, self._dtype(one))) for one in inputs)
            arrays = tuple(array.reshape(np.shape(one)) for array, one in zip(arrays, inputs, strict=True))
            shapes = self._source.shapes("step", arrays)
            with self._lock:
                self._plan(shapes)
                self._draw()
                while loss is None:  # again if another thread has changed the number of threads since
                    loss = self._plan(shapes).executor.run(arrays, True)
        return loss

    def _draw(self) -> None:
        """The seeds of the next step, in the order in which its dropouts were recorded."""
        if self._rng is not None:
            self._seeds[...] = self._rng.integers(1 << 64, size=self._seeds.size, dtype=np.uint64)

    def _dtype(self, value: ArrayLike) -> np.dtype[Any] | None:
        return None if hasattr(value, "dtype") else self._source.dtype

    def run(
        self,
        *inputs: ArrayLike,
        batch_size: int,
        epochs: int = 1,
        rng: np.random.Generator | None = None,
        shuffle: bool = True,
        callback: Callable[[int, float], object] | None = None,
        schedule: Callable[[int], float] | None = None,
        rows: ArrayLike | None = None,
        shared: bool = False,
    ) -> list[float]:
        """Train for whole epochs over data, in batches gathered inside.

        Parameters
        ----------
        *inputs : array_like
            All rows, in the order of ``compile_step(inputs=...)``.
        batch_size : int
            The last batch of an epoch may be smaller.
        epochs : int
        rng : numpy.random.Generator, optional
            Shuffles the rows anew in every epoch; needed with ``shuffle``.
        shuffle : bool
            False: the rows in their order.
        callback : callable, optional
            Called as ``callback(epoch, loss)`` after every epoch, from 1; it may read :meth:`params`.
        schedule : callable, optional
            The learning rate of each step, counted from 1 since the step was compiled: one of
            :mod:`viva_tensor.optim.schedules`, or any function of the number.
        rows : array_like of int, optional
            Numbers of the rows to train on, in this order where nothing is shuffled; all by default.
        shared : bool
            With several ranks (``compile_step(comm=)``): every rank gives the same rows and generator, and takes its
            part of each batch, so that the batches are those of one rank. Otherwise each gives rows of its own, of
            which it takes ``batch_size`` in a step; one whose rows are used up takes part without any until the others
            are done too. The losses are those of all rows. What a schedule or a callback raises, and Ctrl-C, ends the
            run on all ranks, between two steps.

        Returns
        -------
        list of float
            Mean loss over the rows in each epoch, each batch's taken before its update.

        Raises
        ------
        InvalidValue, ShapeMismatch, DimensionError, DtypeError
        KeyboardInterrupt
            Between two steps; the parameters are those after the last whole step.
        """

        def checked() -> Run:
            size, rounds = check_count("run", "batch_size", batch_size), check_count("run", "epochs", epochs, least=0)
            shuffled = flag("run", "shuffle", shuffle)
            if shuffled and not callable(getattr(rng, "permutation", None)):  # all that is asked of a generator here
                got = f"shuffle without a generator, rng is {type(rng).__name__}"
                hint = "give rng=np.random.default_rng(seed), or shuffle=False"
                raise InvalidValue(got, operation="run", hint=hint)
            for name, function in (("schedule", schedule), ("callback", callback)):
                if not (function is None or callable(function)):
                    raise InvalidValue(f"{name}={function!r}, wanted a function or None", operation="run")
            arrays = self._rows(inputs, size)
            chosen = None if rows is None else chosen_rows("run", rows, len(arrays[0]))
            generator = rng if shuffled else None
            return Run(arrays, chosen, size, rounds, generator, schedule, callback, flag("run", "shared", shared))

        try:
            return self._train(checked)
        finally:
            self._rule.lr = self._optimizer.lr

    def _rows(self, inputs: Sequence[ArrayLike], batch_size: int) -> list[Array]:
        """All rows of each input, to take batches from."""
        arrays = [np.ascontiguousarray(as_array("run", one, self._dtype(one))) for one in inputs]
        lengths = {len(array) if array.ndim else 0 for array in arrays}
        if len(lengths) != 1 or 0 in lengths:
            shapes = ", ".join(str(array.shape) for array in arrays)
            raise InvalidValue(
                f"inputs of shapes {shapes}", operation="run", hint="give as many rows in each, and some"
            )
        self._source.shapes("run", [array[:batch_size] for array in arrays])
        return arrays

    def _train(self, checked: Callable[[], Run]) -> list[float]:
        """Train for the epochs of a run; the mean loss of each."""
        return self._epochs(checked())

    def _epochs(self, run: Run) -> list[float]:
        losses = []
        for epoch in range(1, run.epochs + 1):
            losses.append(self._epoch(run))
            if run.callback is not None:
                run.callback(epoch, losses[-1])
        return losses

    def _epoch(self, run: Run) -> float:
        """Train for one epoch; the mean loss of all rows."""
        order, count, schedule = run.order(), run.count, run.schedule
        total = 0.0
        begin = 0
        while begin < count:
            size = min(run.batch_size, count - begin)
            end = begin + size if schedule or self._rng is not None else begin + (count - begin) // size * size
            shapes = tuple((size, *array.shape[1:]) for array in run.arrays)
            losses = 0.0
            while begin < end:
                rate = None if schedule is None else self._optimizer.at_rate(schedule(self.steps + 1)).lr
                with self._lock:
                    planned = self._plan(shapes)
                    self._draw()
                    if rate is not None:
                        self._rule.lr = rate
                    losses, begin = planned.executor.run_batches(run.arrays, order, begin, end, planned.flops, losses)
            total += size * losses
        return total / count

    @property
    def steps(self) -> int:
        """The number of steps made since the step was compiled, those of a restored state included."""
        return self._rule.steps

    @property
    def planned(self) -> list[Planned]:
        """The instructions as last planned, in their order."""
        return self._current.planned

    @property
    def flops(self) -> int:
        """Floating-point operations of one step as last planned."""
        return self._current.flops

    @property
    def lr(self) -> float:
        """The learning rate, which may be set between steps."""
        return self._optimizer.lr

    @lr.setter
    def lr(self, value: float) -> None:
        with self._lock:
            self._optimizer = self._optimizer.at_rate(value)
            self._rule.lr = value

    def params(self, tape: Tape) -> Traced[Any]:
        """The parameters as values again: the tree given to ``compile_step``, of new variables on a tape."""
        new: dict[Variable, Variable] = {}
        with self._lock:
            copies = self._load(self._params)
        for variable, data in zip(self._source.params, copies, strict=True):
            data.setflags(write=False)
            new[variable], tape = new_variable(tape, data)
        return Traced(replaced(self._tree, new.__getitem__), tape)

    def state(self) -> State:
        """Copies of all that a step changes."""
        with self._lock:
            moments = tuple(self._load(block) for block in self._moments.values())
            return self._state(moments)

    def _state(self, moments: tuple[tuple[Array, ...], ...]) -> State:
        return State(self._load(self._params), moments, self.steps, type(self._optimizer).__name__)

    def _prepared(self, state: State) -> list[tuple[Array, tuple[Array, ...]]]:
        """The parameters and moments of a state of this program as they lie here, in memory of their own.

        All that can fail comes before anything is changed.
        """
        if not isinstance(state, State):
            raise InvalidValue(
                f"got {type(state).__name__}, wanted program.State", operation="restore", hint="give what state() gave"
            )
        params, moments, steps, optimizer = state
        own = type(self._optimizer).__name__
        if optimizer not in (None, own):
            raise InvalidValue(
                f"the state is that of another program: of {optimizer}, wanted {own}",
                operation="restore",
                hint=f"compile the same step with {optimizer}",
            )
        wanted = [(variable.data.shape, self._source.dtype) for variable in self._source.params]
        try:
            given = [[(np.shape(array), np.asarray(array).dtype) for array in arrays] for arrays in (params, *moments)]
        except (TypeError, ValueError):  # no arrays, or none at all
            given = []
        if given != [wanted] * (1 + len(self._moments)):
            raise InvalidValue(
                "the state is that of another program", operation="restore", hint="compile the same step"
            )
        if not is_step_count(steps):
            raise InvalidValue(f"steps={steps!r}, wanted a whole number from 0 to 2**62 - 1", operation="restore")
        ready = [self._blocks() for _ in (params, *moments)]
        for (_, arrays), values in zip(ready, (params, *moments), strict=True):
            self._store(arrays, values)
        return ready

    def restore(self, state: State) -> None:
        """Go on from a state, bit for bit.

        Raises
        ------
        InvalidValue
            If it is the state of another program, or of another optimiser.
        """
        ready = self._prepared(state)
        with self._lock:
            put(self._copies(ready), self._rule, int(state.steps))

    def _copies(self, ready: Sequence[tuple[Array, tuple[Array, ...]]]) -> Array:
        """List what :func:`viva_tensor.program._executor.put` copies to make a prepared state that of this program."""
        blocks = self._params, *self._moments.values()
        return copies(
            pair for block, (_, new) in zip(blocks, ready, strict=True) for pair in zip(new, block, strict=True)
        )

    def profile(self, *inputs: ArrayLike, times: int = 20) -> str:
        """Times of each instruction alone on a batch, and its share of the roofline, as a table.

        Nothing is changed: the state is put back. The best of some times counts, on a warm cache.
        """
        times = check_count("profile", "times", times)
        state = self.state()
        try:
            return self._profile(inputs, times)
        finally:
            self.restore(state)

    def _profile(self, inputs: Sequence[ArrayLike], times: int) -> str:
        arrays = tuple(np.asarray(as_array("profile", one, self._dtype(one)), order="C") for one in inputs)
        shapes = self._source.shapes("profile", arrays)
        with self._lock:
            planned = self._plan(shapes)
            seconds = planned.executor.profile(arrays, times)
        return report.profile(planned, seconds, self._source.dtype)

    def __repr__(self) -> str:
        shapes = ", ".join(str(list(shape)) for shape in self._shapes)
        return f"<Step on {shapes}: {len(self.planned)} instructions>"

    def __str__(self) -> str:
        return report.listing(self._current, self._source.dtype)


def copies(pairs: Iterable[tuple[Array, Array]]) -> Array:
    """Each first array of a pair over the second, as :func:`viva_tensor.program._executor.put` takes it."""
    return np.array([(new.ctypes.data, old.ctypes.data, old.nbytes) for new, old in pairs], np.int64)


def chosen_rows(operation: str, numbers: ArrayLike, count: int) -> Array:
    """Numbers of some rows, if there are such rows.

    Examples
    --------
    >>> chosen_rows("run", [2, 0], count=3)
    array([2, 0])
    """
    hint = "give the numbers of some rows, such as np.arange(10)"
    if np.ma.is_masked(numbers):
        raise InvalidValue("rows are masked, and the mask would be lost", operation=operation, hint=hint)
    try:
        chosen = np.asarray(numbers)
    except ValueError as reason:
        raise InvalidValue(f"no array can be made of rows ({reason})", operation=operation, hint=hint) from None
    if chosen.ndim != 1 or chosen.dtype.kind not in "iu" or not chosen.size:
        got = f"rows of dtype {chosen.dtype} and shape {chosen.shape}"
        raise InvalidValue(got, operation=operation, hint=hint)
    for number in (chosen.min(), chosen.max()):
        if not 0 <= number < count:
            raise InvalidValue(f"row {number} of {count}", operation=operation, hint=f"rows are 0 to {count - 1}")
    return np.ascontiguousarray(chosen, np.int64)
