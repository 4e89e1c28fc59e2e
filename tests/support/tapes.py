"""Tapes to begin with."""


def variables(*arrays):
    tape, made = new_tape(), []
    for array in arrays:
        variable, tape = new_variable(tape, array)
        made.append(variable)
    return *made, tape
