"""A recorded forward pass, compiled for inference."""

from __future__ import annotations

from collections.abc import Sequence

from numpy.typing import ArrayLike

from viva_tensor.autograd import Tape, Variable
from viva_tensor.error import InvalidValue
from viva_tensor.kernels.arrays import Array
from viva_tensor.kernels.threads import get_num_threads
from viva_tensor.program import report
from viva_tensor.program._executor import Guard
from viva_tensor.program.emission import Holdings
from viva_tensor.program.instructions import Shapes
from viva_tensor.program.planning import MOST_PLANS, Plan, plan
from viva_tensor.program.source import Source, source_of


class Forward:
    """A forward pass as a program, made by :func:`compile_forward`. Several threads may call it at once."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._idle: dict[tuple[Shapes, int], list[tuple[Plan, Array]]] = {}
        self._lock = Guard()
        self._recorded = tuple(variable.data.shape for variable in source.inputs)
        threads = get_num_threads()
        self._idle[self._recorded, threads] = [self._planned(self._recorded, threads)]

    def _planned(self, shapes: Shapes, threads: int) -> tuple[Plan, Array]:
        source = self._source
        instructions, output = source.instructions(shapes)
        made = plan(instructions, output, shapes, source.dtype, threads, Holdings())
        start = made.offsets[output.buffer] + output.offset * source.dtype.itemsize
        data = made.arena[start : start + output.size * source.dtype.itemsize]
        return made, data.view(source.dtype).reshape(output.shape)

    def __call__(self, *inputs: ArrayLike) -> Array:
        """Return the output for a batch, as a new array.

        Parameters
        ----------
        *inputs : array_like
            In the order of ``compile_forward(inputs=...)``; the number of rows may differ from the recorded one.

        Raises
        ------
        ShapeMismatch, DimensionError, DtypeError
            If the inputs are not like the recorded ones.
        """
        arrays = self._source.arrays("forward", inputs)
        shapes = self._source.shapes("forward", arrays)
        result = None
        while result is None:
            key = shapes, get_num_threads()
            with self._lock:
                idle = self._idle.get(key)
                made = idle.pop() if idle else None
            made = made or self._planned(*key)
            if made[0].executor.run(arrays) is not None:  # None if the number of threads has changed since
                result = made[1].copy()
            with self._lock:
                if key not in self._idle and len(self._idle) >= MOST_PLANS:
                    self._idle.pop(next(iter(self._idle)))
                self._idle.setdefault(key, []).append(made)
        return result

    def __str__(self) -> str:
        with self._lock:
            known = next((plans[-1][0] for plans in self._idle.values() if plans), None)
        known = known or self._planned(self._recorded, get_num_threads())[0]
        return report.listing(known, self._source.dtype)


def compile_forward(tape: Tape, *, output: Variable, inputs: Sequence[Variable]) -> Forward:
    """Compile a recorded forward pass for inference.

    Parameters
    ----------
    tape : Tape
    output : Variable
        The result of a call.
    inputs : sequence of Variable
        Leaves that each call replaces; everything else stays as recorded.

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
    """
    source = source_of("compile_forward", tape, output, inputs, (), None)
    if source.seeds:
        raise InvalidValue(
            f"the output depends on {source.dropouts} dropouts",
            operation="compile_forward",
            hint="record the forward pass without them",
        )
    return Forward(source)
