"""Reverse-mode differentiation on an explicit tape.

A tape is a value. Recording an operation returns its result and a new tape that ends with it; the old tape stays as it
was, and several may be recorded from it without disturbing each other (``tape``). ``backward`` walks a tape from a loss
to its leaves and applies the gradient rule of each operation (``operations``). The operations as functions, such as
``add``, are in ``functions``, ``choices`` and ``shaping``; all they do is record. ``gradient`` records what
``backward`` computes, so that derivatives can be differentiated again (``derivatives``).

>>> x, tape = new_variable(new_tape(), 2.0)
>>> y, tape = new_variable(tape, 3.0)
>>> total, tape = add(tape, x, y)
>>> z, tape = mul(tape, total, x)        # z = (x + y) x
>>> grads = backward(tape, z)
>>> float(grads[x]), float(grads[y])     # dz/dx = 2x + y, dz/dy = x
(7.0, 2.0)
"""

from viva_tensor.autograd import choices, functions, indexing, products, reductions, shaping
from viva_tensor.autograd.backward import Gradients, backward
from viva_tensor.autograd.choices import *
from viva_tensor.autograd.derivatives import gradient, hessian, hvp, jacobian, jvp
from viva_tensor.autograd.functions import *
from viva_tensor.autograd.gradcheck import check_gradients
from viva_tensor.autograd.indexing import *
from viva_tensor.autograd.per_example import per_example_gradients
from viva_tensor.autograd.products import *
from viva_tensor.autograd.reductions import *
from viva_tensor.autograd.shaping import *
from viva_tensor.autograd.tape import (
    Node,
    Tape,
    Traced,
    Variable,
    new_constant,
    new_tape,
    new_variable,
    record,
    sequence,
)

__all__ = [
    "Gradients",
    "Node",
    "Tape",
    "Traced",
    "Variable",
    "backward",
    "check_gradients",
    "gradient",
    "hessian",
    "hvp",
    "jacobian",
    "jvp",
    "new_constant",
    "new_tape",
    "new_variable",
    "per_example_gradients",
    "record",
    "sequence",
]
__all__ += choices.__all__
__all__ += functions.__all__
__all__ += indexing.__all__
__all__ += products.__all__
__all__ += reductions.__all__
__all__ += shaping.__all__
