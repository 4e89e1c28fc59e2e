"""The operations of the tape, each defined once: name, shape rule, forward, and rules for gradients and tangents.

A rule is written in terms of operations: ``do(operation, *values, **attributes)``. When run eagerly, ``do`` computes; a
compiler's ``do`` makes instructions, and that of :func:`viva_tensor.autograd.gradient` records. A gradient rule is
called as ``rule(do, grad, output, *inputs, **attributes)`` with the gradient of the loss with respect to the output; it
may look only at the shapes of its values, and take Python numbers for constants.

Where a slope is infinite, such as the slope of sqrt at 0, a gradient of 0 stays 0: such rules multiply by CHAIN_MUL and
divide by CHAIN_DIV. In mul itself 0 · ∞ is NaN, as in NumPy.
"""

from viva_tensor.autograd.operations.arithmetic import *
from viva_tensor.autograd.operations.base import (
    Axis,
    Counted,
    JoinedAxes,
    OpenLater,
    OpenSize,
    Operation,
    RowGroups,
    Shape,
    Span,
    Value,
    remember,
)
from viva_tensor.autograd.operations.curves import *
from viva_tensor.autograd.operations.indexing import *
from viva_tensor.autograd.operations.losses import *
from viva_tensor.autograd.operations.products import *
from viva_tensor.autograd.operations.reductions import *
from viva_tensor.autograd.operations.shapes import *
from viva_tensor.autograd.operations.shapes import concatenation

__all__ = ["Axis", "Counted", "JoinedAxes", "OpenLater", "OpenSize", "Operation", "RowGroups", "Shape", "Span", "Value"]

for _operation in [_value for _value in vars().values() if isinstance(_value, Operation)]:
    remember(_operation)
remember(concatenation(1), concatenation)
