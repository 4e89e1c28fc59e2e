"""A recorded forward pass, compiled for inference."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from viva_tensor.autograd import Tape, Variable
from viva_tensor.autograd.tape import several
from viva_tensor.error import InvalidValue
from viva_tensor.kernels.arrays import Array
from viva_tensor.kernels.threads import get_num_threads
from viva_tensor.program import report
from viva_tensor.program._guard import Guard
from viva_tensor.program.emission import Holdings
from viva_tensor.program.instructions import Shapes
from viva_tensor.program.planning import MOST_PLANS, Plan, plan
from viva_tensor.program.source import Source, source_of

MOST_IDLE = 2  # plans of a key that are put away: not those of all threads of a burst
Key = tuple[Shapes, int]  # of the inputs, and the number of threads
Result = Array | tuple[Array, ...]


@dataclass(frozen=True, slots=True)
class Ready:
    """A plan, which one thread at a time may run, and where its output lies, or each of several.

    Large outputs lie nowhere: each call makes new arrays, which the plan writes.
    """

    key: Key
    plan: Plan
    output: Array | None
    outputs: tuple[Array | None, ...] = ()

    def run(self, inputs: tuple[ArrayLike, ...]) -> Result | None:
        """Return the output in a new array; None for anything but plain arrays of the planned shapes, and threads."""
        plan = self.plan
        if not plan.returned:
            if plan.executor.run(inputs) is None:
                return None
            if self.output is not None:
                return self.output.copy()
            return tuple(output.copy() for output in self.outputs if output is not None)
        given = tuple([np.empty(part.shape, plan.dtype) for part in plan.returned])
        if plan.executor.run(inputs + given) is None:
            return None
        if not self.outputs:
            return given[0]
        new = iter(given)
        return tuple(next(new) if output is None else output.copy() for output in self.outputs)


class Forward:
    """A forward pass as a program, made by :func:`compile_forward`. Several threads may call it at once."""

    def __init__(self, source: Source, several: bool = False) -> None:
        self._source = source
        self._several = several
        self._idle: dict[Key, list[Ready]] = {}
        self._recent: list[Ready] = []  # plans of the latest key, taken without the lock
        self._lock = Guard()
        self._recorded = tuple(variable.data.shape for variable in source.inputs)
        self._recent.append(self._planned((self._recorded, get_num_threads())))

    def _planned(self, key: Key) -> Ready:
        source, (shapes, threads) = self._source, key
        instructions, output, parts = source.lowered(shapes)
        made = plan(instructions, output, shapes, source.dtype, threads, Holdings(), parts)
        found = tuple(None if part in made.returned else made.array(part) for part in parts)
        return Ready(key, made, None, found) if self._several else Ready(key, made, found[0])

    def __reduce__(self) -> tuple[type[Forward], tuple[Source, bool]]:
        return Forward, (self._source, self._several)

    def __call__(self, *inputs: ArrayLike) -> Any:
        """Return the output for a batch as a new array, or a tuple of them if a tuple was compiled.

        Parameters
        ----------
        *inputs : array_like
            In the order of ``compile_forward(inputs=...)``. The number of rows may differ from the recorded one, and
            that of the entries of sums of rows, as in a step.

        Raises
        ------
        ShapeMismatch, DimensionError, DtypeError
            If the inputs are not like the recorded ones.
        """
        try:
            ready = self._recent.pop()
        except IndexError:  # all of them are running in other threads
            return self._run(inputs)
        result = ready.run(inputs)
        self._recent.append(ready)
        return self._run(inputs) if result is None else result

    def _run(self, inputs: tuple[ArrayLike, ...]) -> Result:
        """Run for any inputs, which are converted and checked, with the plan for their shapes."""
        arrays = self._source.arrays("forward", inputs)
        shapes = self._source.shapes("forward", arrays)
        result = None
        while result is None:
            key = shapes, get_num_threads()
            with self._lock:
                ready = self._take(key)
            ready = ready or self._planned(key)
            result = ready.run(arrays)  # None if the number of threads has changed since
            self._recent.append(ready)
        return result

    def _take(self, key: Key) -> Ready | None:
        """Take a plan of a key if there is one, make its others the recent ones, and put away those of other keys.

        Threads that do not hold the lock may take recent plans meanwhile, so each is moved by taking it.
        """
        wanted = self._idle.pop(key, [])
        before, self._recent = self._recent, []
        with suppress(IndexError):
            while ready := before.pop():
                if ready.key == key:
                    wanted.append(ready)
                    continue
                if ready.key not in self._idle and len(self._idle) >= MOST_PLANS:
                    self._idle.pop(next(iter(self._idle)))
                idle = self._idle.setdefault(ready.key, [])
                if len(idle) < MOST_IDLE:
                    idle.append(ready)
        taken = wanted.pop() if wanted else None
        self._recent.extend(wanted)
        return taken

    def __str__(self) -> str:
        known = next(iter(self._recent[-1:]), None) or self._planned((self._recorded, get_num_threads()))
        return report.listing(known.plan)


def compile_forward(tape: Tape, *, output: Variable | Sequence[Variable], inputs: Sequence[Variable]) -> Forward:
    """Compile a recorded forward pass for inference.

    Parameters
    ----------
    tape : Tape
    output : Variable, or a sequence of them
        The result of a call: an array, or a tuple of arrays. Gradients that :func:`viva_tensor.autograd.gradient`
        recorded are outputs like any other.
    inputs : sequence of Variable
        Leaves that each call replaces, at most 16; everything else stays as recorded. The first that has axes says how
        many rows a batch has; those with as many rows change with it. :func:`viva_tensor.autograd.reshape` says which
        of its sizes do.

    Returns
    -------
    Forward

    Raises
    ------
    ForeignVariable, InvalidValue, DtypeError, TensorError
        As :func:`compile_step`.

    Examples
    --------
    >>> from viva_tensor import autograd
    >>> x, tape = autograd.new_constant(autograd.new_tape(), [[-1.0, 2.0]])
    >>> y, tape = autograd.relu(tape, x)
    >>> predict = compile_forward(tape, output=y, inputs=(x,))
    >>> predict([[3.0, -4.0], [5.0, 6.0]])
    array([[3., 0.],
           [5., 6.]], dtype=float32)
    >>> total, tape = autograd.sum(tape, y)
    >>> slope, tape = autograd.gradient(tape, total, x)
    >>> predict = compile_forward(tape, output=(y, slope), inputs=(x,))
    >>> predict([[3.0, -4.0]])
    (array([[3., 0.]], dtype=float32), array([[1., 0.]], dtype=float32))
    """
    one = isinstance(output, Variable)
    outputs = (output,) if isinstance(output, Variable) else several("compile_forward", "output", output)
    if not outputs:
        raise InvalidValue("no outputs", operation="compile_forward", hint="give a variable, or a tuple of them")
    source = source_of("compile_forward", tape, outputs, inputs, (), None)
    if source.seeds:
        raise InvalidValue(
            f"the output depends on {source.dropouts} dropouts",
            operation="compile_forward",
            hint="record the forward pass without them",
        )
    return Forward(source, several=not one)
