"""Optimisers as records, with pure functions on any tree of variables; learning rates as functions of the step.

>>> from viva_tensor import autograd
>>> w, tape = autograd.new_variable(autograd.new_tape(), 3.0)
>>> loss, tape = autograd.mul(tape, w, w)
>>> sgd = SGD(lr=0.25)
>>> (w, state), tape = update(autograd.new_tape(), sgd, init(sgd, w), w, autograd.backward(tape, loss))
>>> float(w.data)
1.5
"""

from viva_tensor.optim import schedules
from viva_tensor.optim.averages import (
    Average,
    Averaging,
    average_init,
    average_params,
    average_update,
    averaged_gradients,
)
from viva_tensor.optim.factors import Factors
from viva_tensor.optim.optimizers import SGD, Adam, AdamW, Lion, Optimizer, RMSprop
from viva_tensor.optim.quasi_newton import Minimum, lbfgs
from viva_tensor.optim.schedules import Rates
from viva_tensor.optim.steps import State, clip_by_norm, init, update
from viva_tensor.optim.trees import leaves, replaced

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "Average",
    "Averaging",
    "Factors",
    "Lion",
    "Minimum",
    "Optimizer",
    "RMSprop",
    "Rates",
    "State",
    "average_init",
    "average_params",
    "average_update",
    "averaged_gradients",
    "clip_by_norm",
    "init",
    "lbfgs",
    "leaves",
    "replaced",
    "schedules",
    "update",
]
