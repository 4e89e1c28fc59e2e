"""A recorded step, compiled: forward, loss, backward and update in one call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from viva_tensor.autograd import Tape, Traced, Variable, new_variable
from viva_tensor.error import InvalidValue
from viva_tensor.kernels.arrays import Array
from viva_tensor.kernels.checks import check_count, flag
from viva_tensor.optim import Averaging, Optimizer, Rates, replaced
from viva_tensor.optim.schedules import rates_of
from viva_tensor.program import report
from viva_tensor.program._executor import put
from viva_tensor.program._guard import Guard
from viva_tensor.program.emission import Holdings
from viva_tensor.program.instructions import Shapes
from viva_tensor.program.layouts import of_parameters
from viva_tensor.program.planning import Plan, Plans
from viva_tensor.program.run import Run, chosen_rows
from viva_tensor.program.scheduled import Scheduled, numbers_of
from viva_tensor.program.scheduling import Planned
from viva_tensor.program.source import Source
from viva_tensor.program.store import ParameterStore, State


class Step:
    """One training step as a program, made by :func:`viva_tensor.program.compile_step`.

    A call with a batch runs forward, loss, backward and update, and returns the loss before the update, or the sum of
    several; :attr:`losses` has each. The step owns the parameters; :meth:`params` returns their values, and
    :meth:`average_params` their average. ``print(step)`` shows the program.
    """

    def __init__(
        self,
        source: Source,
        params: Any,
        optimizer: Optimizer,
        rng: np.random.Generator | None = None,
        average: Averaging | None = None,
    ) -> None:
        self._source = source
        self._averaging = average
        self._tree = params
        self._optimizer = optimizer
        self._rates = rates_of(optimizer, optimizer.lr)
        self._rule = optimizer.rule()
        self._lock = Guard()
        self._rng = rng
        self._seeds = np.zeros(len(source.seeds), np.uint64)
        self._dropout_factor = np.ones(())
        self._store, self._plans = self._compiled(tuple(variable.data.shape for variable in source.inputs))

    def _compiled(self, shapes: Shapes) -> tuple[ParameterStore, Plans]:
        """Return parameters and moments, and plans of the step, one of them for these shapes."""
        source = self._source
        lowered = source.instructions(shapes)
        layouts = of_parameters(lowered[0], source.dtype)
        store = ParameterStore(source, layouts, self._optimizer, averaged=self._averaging is not None)
        held = Holdings(
            store.params.arrays,
            store.layouts,
            store.moments,
            self._rule,
            source.factors,
            self._lock,
            self._seeds,
            self._dropout_factor,
        )
        plans = Plans(source.instructions, source.dtype, held)
        plans.at(shapes, lowered)
        return store, plans

    def __call__(self, *inputs: ArrayLike) -> float:
        """Make one step on a batch.

        Parameters
        ----------
        *inputs : array_like
            In the order of ``compile_step(inputs=...)``. Contiguous arrays of the recorded dtype are not copied. The
            number of rows may differ from the recorded one, and the entries of each row if an input is only indices or
            weights of :func:`viva_tensor.autograd.embedding_bag`; each shape is planned once.

        Returns
        -------
        float
            The loss, before the update.

        Raises
        ------
        ShapeMismatch, DimensionError, DtypeError
            If the inputs are not like the recorded ones. Nothing is then changed.
        """
        simple = self._rng is None and self._averaging is None
        loss = self._plans.current.executor.run(inputs) if simple else None
        if loss is None:
            arrays = self._source.arrays("step", inputs)
            shapes = self._source.shapes("step", arrays)
            with self._lock:
                self._plans.at(shapes)
                self._draw()
                while loss is None:  # again if another thread has changed the number of threads
                    loss = self._plans.at(shapes).executor.run(arrays, True)
                self._average()
        return loss

    def _average(self) -> None:
        """Take the parameters after a step into their average, if one is kept."""
        if self._averaging is not None:
            self._store.average(self._averaging.kept(self.steps))

    def _draw(self) -> None:
        """Draw the seeds of the next step, in the order in which its dropouts were recorded."""
        if self._rng is not None:
            self._seeds[...] = self._rng.integers(1 << 64, size=self._seeds.size, dtype=np.uint64)

    def run(
        self,
        *inputs: ArrayLike,
        batch_size: int,
        epochs: int = 1,
        rng: np.random.Generator | None = None,
        shuffle: bool = True,
        callback: Callable[[int, float], object] | None = None,
        schedule: Callable[[int], float | Rates] | None = None,
        rows: ArrayLike | None = None,
        shared: bool = False,
    ) -> list[float]:
        """Train for whole epochs, in batches of rows that are gathered here.

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
            :mod:`viva_tensor.optim.schedules`, or any function of the number. It may return
            :class:`viva_tensor.optim.Rates`, for weight decay and dropout that change, too. A run calls it once for
            each of its steps, for short ones up to 64 steps ahead: what it returns should depend on the number alone.
            Rates that are set meanwhile count from the next epoch on.
        rows : array_like of int, optional
            Indices of the rows to train on, in this order if not shuffled; all rows by default.
        shared : bool
            With several ranks (``compile_step(comm=)``), True: every rank gives the same rows and generator, and takes
            its share of each batch, so that the batches are those of one rank. False: each rank gives its own rows and
            takes ``batch_size`` of them in a step; a rank that has used up its rows takes part without any until the
            others are done. The losses are those of all rows. Errors of a schedule or a callback, and Ctrl-C, end the
            run on all ranks, between two steps.

        Returns
        -------
        list of float
            Mean loss over the rows in each epoch, that of each batch before its update.

        Raises
        ------
        InvalidValue, ShapeMismatch, DimensionError, DtypeError
        KeyboardInterrupt
            Between two steps; the parameters are those after the last step.
        """

        def checked() -> Run:
            size, rounds = check_count("run", "batch_size", batch_size), check_count("run", "epochs", epochs, least=0)
            shuffled = flag("run", "shuffle", shuffle)
            if shuffled and not callable(getattr(rng, "permutation", None)):  # all that a run needs of a generator
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
            with self._lock:
                self._set(self._rates)

    def _rows(self, inputs: Sequence[ArrayLike], batch_size: int) -> list[Array]:
        """Return all rows of each input, checked."""
        arrays = list(self._source.arrays("run", inputs))
        lengths = {len(array) if array.ndim else 0 for array in arrays}
        if len(lengths) != 1 or 0 in lengths:
            shapes = ", ".join(str(array.shape) for array in arrays)
            raise InvalidValue(
                f"inputs of shapes {shapes}", operation="run", hint="give as many rows in each, and some"
            )
        self._source.shapes("run", [array[:batch_size] for array in arrays])
        return arrays

    def _train(self, checked: Callable[[], Run]) -> list[float]:
        """Train for the epochs of a run; return the mean loss of each."""
        return self._epochs(checked())

    def _epochs(self, run: Run) -> list[float]:
        losses = []
        for epoch in range(1, run.epochs + 1):
            losses.append(self._epoch(run))
            if run.callback is not None:
                run.callback(epoch, losses[-1])
        return losses

    def _epoch(self, run: Run) -> float:
        """Train for one epoch; return the mean loss of all rows."""
        order, count = run.order(), run.count
        scheduled = None if run.schedule is None else Scheduled(run.schedule, self._optimizer, self._rates)
        total = 0.0
        begin = 0
        while begin < count:
            size = min(run.batch_size, count - begin)
            one_by_one = self._rng is not None or self._averaging is not None
            end = begin + size if one_by_one else begin + (count - begin) // size * size
            shapes = tuple((size, *array.shape[1:]) for array in run.arrays)
            losses = 0.0
            with self._lock:
                flops = self._plans.at(shapes).flops
            while begin < end:
                rates, last = None, end
                with self._lock:
                    if scheduled is not None:
                        rates = scheduled.of(self.steps + 1, (end - begin) // size, flops)
                        self._dropout_factor[...] = rates[0, 2]
                        last = begin + len(rates) * size
                    planned = self._plans.at(shapes)
                    self._draw()
                    losses, begin = planned.executor.run_batches(run.arrays, order, begin, last, flops, losses, rates)
                    self._average()
            total += size * losses
        return total / count

    @property
    def losses(self) -> tuple[float, ...]:
        """Each loss given to ``compile_step``, of the latest step on this rank's rows; NaN before the first step."""
        with self._lock:
            return self._losses_of(self._plans.current)

    def _losses_of(self, plan: Plan) -> tuple[float, ...]:
        """Return each loss as a plan left it."""
        values = plan.array(plan.output).ravel().tolist()
        return tuple(values[1:] or values)  # of several, the first is their sum

    @property
    def steps(self) -> int:
        """The number of steps since the step was compiled, including those of a restored state."""
        return self._rule.steps

    @property
    def planned(self) -> list[Planned]:
        """The instructions of the last plan, in order."""
        return self._plans.current.planned

    @property
    def flops(self) -> int:
        """Floating-point operations of one step of the last plan."""
        return self._plans.current.flops

    @property
    def lr(self) -> float:
        """The learning rate; it may be set between steps."""
        return self._rates.lr

    @lr.setter
    def lr(self, value: float) -> None:
        self.rates = replace(self.rates, lr=self._optimizer.at_rate(value).lr)

    @property
    def rates(self) -> Rates:
        """The learning rate, the weight decay and the factor of dropout rates; they may be set between steps."""
        return self._rates

    @rates.setter
    def rates(self, value: Rates) -> None:
        with self._lock:
            self._rates = rates_of(self._optimizer, value)
            self._set(self._rates)

    def _set(self, given: float | Rates, step: int | None = None) -> None:
        """Set all rates, or the learning rate that a schedule gave beside the others, for the next step."""
        self._rule.lr, self._rule.decay, factor = numbers_of(given, self._optimizer, self._rates, step)
        self._dropout_factor[...] = factor

    def __copy__(self) -> Self:
        shared = {id(one): one for one in (self._source, self._tree)}  # no step changes them, but it does its generator
        return deepcopy(self, shared)

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (type(self), self._made(), self.state(), self._rates)

    def _made(self) -> tuple[Any, ...]:
        """Return what the step was made of."""
        return self._source, self._tree, self._optimizer, self._rng, self._averaging

    def params(self, tape: Tape) -> Traced[Any]:
        """Return the parameters as new variables on a tape, in the tree given to ``compile_step``."""
        with self._lock:
            copies = self._store.values()
        return self._recorded(tape, copies)

    def average_params(self, tape: Tape) -> Traced[Any]:
        """Return the average of the parameters over the steps, as :meth:`params` returns the parameters.

        If the optimiser's state is sharded, every rank makes this call.

        Raises
        ------
        InvalidValue
            If the step was compiled without ``average``.
        """
        if self._averaging is None:
            hint = "compile it with average=optim.Averaging()"
            raise InvalidValue("the step keeps no average", operation="average_params", hint=hint)
        return self._recorded(tape, self.state().moments[-1])

    def _recorded(self, tape: Tape, arrays: Iterable[Array]) -> Traced[Any]:
        """Record arrays as variables, in the tree of the parameters."""
        new: dict[Variable, Variable] = {}
        for variable, data in zip(self._source.params, arrays, strict=True):
            data.setflags(write=False)
            new[variable], tape = new_variable(tape, data)
        return Traced(replaced(self._tree, new.__getitem__), tape)

    def state(self) -> State:
        """Return copies of all that a step changes but the generator of dropouts, ``rng.bit_generator.state``."""
        with self._lock:
            return self._store.state(self.steps)

    def restore(self, state: State) -> None:
        """Go on from a state, bit for bit; with dropouts, if the generator is put back, too.

        Raises
        ------
        InvalidValue
            If it is the state of another program, or of another optimiser.
        """
        ready = self._store.prepared(state)
        with self._lock:
            put(self._store.copies(ready), self._rule, int(state.steps))

    def profile(self, *inputs: ArrayLike, times: int = 20) -> str:
        """Return a table of the time of each instruction alone on a batch, and its share of the roofline.

        The state is restored; only :attr:`losses` are those of the batch. Each time is the best of ``times``, on a warm
        cache.
        """
        times = check_count("profile", "times", times)
        with self._lock:
            state = self.state()
            try:
                return self._profile(inputs, times)
            finally:
                self.restore(state)

    def _profile(self, inputs: Sequence[ArrayLike], times: int) -> str:
        arrays = self._source.arrays("profile", inputs)
        shapes = self._source.shapes("profile", arrays)
        planned = self._plans.at(shapes)
        seconds = planned.executor.profile(arrays, times)
        return report.profile(planned, seconds)

    def __repr__(self) -> str:
        shapes = ", ".join(str(list(shape)) for shape in self._plans.shapes)
        return f"<Step on {shapes}: {len(self.planned)} instructions>"

    def __str__(self) -> str:
        return report.listing(self._plans.current)


def _unpickled(kind: type[Step], made: tuple[Any, ...], state: State, rates: Rates) -> Step:
    step = kind(*made)
    step.restore(state)
    step.rates = rates
    return step
