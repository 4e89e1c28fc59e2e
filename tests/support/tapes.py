"""Tapes to begin with."""

from viva_tensor.autograd import new_constant, new_tape, new_variable


def recorded(*arrays, constants=0):
    """A variable for each array, the first so many of them constants, and the tape that they are on."""
    tape, made = new_tape(), []
    for index, array in enumerate(arrays):
        variable, tape = (new_constant if index < constants else new_variable)(tape, array)
        made.append(variable)
    return *made, tape


def variables(*arrays):
    """A variable for each array, and the tape that they are on."""
    return recorded(*arrays)
