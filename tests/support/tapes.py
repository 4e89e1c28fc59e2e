"""Tapes to begin with."""

from viva_tensor.autograd import new_tape, new_variable


def variables(*arrays):
    """A variable for each array, and the tape that they are on."""
    tape, made = new_tape(), []
    for array in arrays:
        variable, tape = new_variable(tape, array)
        made.append(variable)
    return *made, tape
