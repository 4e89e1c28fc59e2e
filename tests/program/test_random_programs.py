"""Random programs of every operation: compiled, on the tape, by NumPy. What they found is in test_mended_programs.py.

``python -m stress.programs`` runs many more.
"""

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test
from support.played_programs import TRIED
from support.random_programs import Programs
from support.reference import NAMES
from support.tapes import recorded

from viva_tensor import autograd, optim, program


def test_programs_have_the_bits_of_the_tape_and_the_values_of_numpy():
    chosen = settings(
        max_examples=100,
        stateful_step_count=20,
        deadline=None,
        derandomize=True,  # a suite that fails by chance says nothing of a change
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )
    TRIED.clear()
    run_state_machine_as_test(Programs, settings=chosen)
    assert TRIED["steps"]
    assert TRIED["predictions"]
    assert TRIED["values and gradients held against NumPy"]
    assert TRIED["operation gradient"]
    assert TRIED["operation jvp"]


class Recorded(Programs):
    train = predict = None  # which take long


def test_random_programs_hold_every_operation():
    chosen = settings(max_examples=50, stateful_step_count=50, deadline=None, database=None, phases=[Phase.generate])
    TRIED.clear()
    for number in range(20):
        run_state_machine_as_test(seed(number)(Recorded), settings=chosen)
        missing = {name for name in NAMES if not TRIED[f"recorded {name}"]}
        if not missing:
            return
    assert not missing, f"no rule of support.random_operations records {', '.join(sorted(missing))}; add one"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -0.0])
def test_special_values_travel_as_on_the_tape(value):
    arrays = [[value, 1.0], [0.0, -1.0]], [[1.0, -1.0], [0.5, 2.0]]
    x, w, tape = recorded(*np.array(arrays, "f4"), constants=1)
    h, tape = autograd.matmul(tape, x, w)
    h, tape = autograd.relu(tape, h)
    h, tape = autograd.matmul(tape, h, w)
    loss, tape = autograd.mean(tape, h)
    expected = np.float32(w.data - np.float32(0.1) * autograd.backward(tape, loss)[w])
    step = program.compile_step(tape, loss=loss, params=w, inputs=(x,), optimizer=optim.SGD(lr=0.1))
    assert np.array_equal(step(x.data), float(loss.data), equal_nan=True)
    assert np.allclose(step.params(autograd.new_tape()).value.data, expected, equal_nan=True)
