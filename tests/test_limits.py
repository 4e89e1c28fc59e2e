"""What the machine or the arithmetic of addresses refuses: an error, and everything is as it was."""

import platform
import shutil
import sys

import numpy as np
import pytest
from support import allocation_shim
from support.fresh import run_module
from support.training import compiled, digest

from viva_tensor import autograd, error, kernels, nn, optim, program
from viva_tensor.kernels import _team

PARALLEL = pytest.mark.skipif(not _team.openmp_version(), reason="a build without OpenMP")


@PARALLEL
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits as Linux counts them")
@pytest.mark.parametrize("limit", ["processes", "memory"])
def test_threads_that_cannot_be_started_leave_one(limit):
    """The work is done all the same, and later calls do not try again."""
    lines = run_module("support.process_programs.refused_threads", limit).splitlines()
    assert lines[0].startswith("RuntimeWarning: 7 more threads cannot be")
    assert lines[1:] == ["1 threads that could not be started", "2 True True"]


def huge(*shape, dtype="float32"):
    """An array of this shape that takes no memory."""
    return np.broadcast_to(np.ones((), dtype), shape)


K = 2**40
OVERFLOWS = {
    "add": lambda: kernels.add(huge(2**32, 1), huge(1, 2**31)),
    "add of three": lambda: kernels.add(huge(2**32, 1, 1), huge(1, 2**31, 1)),
    "mul just too big": lambda: kernels.mul(huge(2**31, 1), huge(1, 2**30)),
    "maximum": lambda: kernels.maximum(huge(2**32, 1), huge(1, 2**30)),
    "matmul": lambda: kernels.matmul(huge(K, 1), huge(1, K)),
    "matmul of nothing": lambda: kernels.matmul(np.empty((2**60, 0), "f4"), np.empty((0, 4), "f4")),
    "linear": lambda: kernels.linear(np.empty((2**60, 0), "f4"), np.empty((4, 0), "f4"), np.ones(4, "f4")),
    "sum_backward": lambda: kernels.sum_backward(np.float32(1), (K, K)),
    "mean_backward": lambda: kernels.mean_backward(np.float32(1), (2**62,)),
    "concatenate": lambda: on_tape(lambda tape, x: autograd.concatenate(tape, [x] * 16), huge(2**60)),
    "concatenate two": lambda: on_tape(lambda tape, x: autograd.concatenate(tape, [x] * 2), huge(2**60)),
    "reshape": lambda: on_tape(lambda tape, x: autograd.reshape(tape, x, (0, 2**62)), np.empty((0, 2), "f4")),
    "reshape to a larger one": lambda: on_tape(lambda tape, x: autograd.reshape(tape, x, (K, K)), np.ones(4, "f4")),
    "linear layer": lambda: nn.linear(autograd.new_tape(), K, K, rng=np.random.default_rng(0)),
    "mlp": lambda: nn.mlp(autograd.new_tape(), (10**30, 1), rng=np.random.default_rng(0)),
    "layer_norm": lambda: nn.layer_norm(autograd.new_tape(), 2**62),
    "sum axis": lambda: kernels.sum(np.ones(2, "f4"), axis=10**30),
    "steps of adam": lambda: kernels.adam(*(np.ones(1),) * 4, step=2**63, lr=0.1),
}
TOO_BIG = {
    "relu": lambda: kernels.relu(huge(2**30, 2**20)),
    "relu of three": lambda: kernels.relu(huge(2**20, 2**10, 2**20)),
    "softmax": lambda: kernels.softmax(huge(2**30, 2**20)),
    "add": lambda: kernels.add(huge(2**25, 1), huge(1, 2**25)),
    "matmul": lambda: kernels.matmul(huge(2**30, 1), huge(1, 2**30)),
    "sum": lambda: kernels.sum(huge(1, 2**50), axis=0),
    "dropout": lambda: kernels.dropout(huge(2**30, 2**20), 0.5, 3),
    "sgd": lambda: kernels.sgd(huge(2**50), huge(2**50), 0.1),
    "linear layer": lambda: nn.linear(autograd.new_tape(), 2**30, 2**20, rng=np.random.default_rng(0)),
}


def on_tape(operation, array):
    x, tape = autograd.new_variable(autograd.new_tape(), array)
    return operation(tape, x)


@pytest.mark.parametrize("case", OVERFLOWS)
def test_a_size_that_no_address_reaches_is_refused(case):
    with pytest.raises(error.TensorError) as caught:
        OVERFLOWS[case]()
    assert caught.value.operation
    assert isinstance(caught.value, (ValueError, IndexError))


@pytest.mark.parametrize("case", TOO_BIG)
def test_more_memory_than_there_is_is_a_memory_error(case):
    with pytest.raises(MemoryError):
        TOO_BIG[case]()


def program_of(features):
    """(step, predict) of a linear layer that may have no features at all."""
    x, tape = autograd.new_constant(autograd.new_tape(), np.ones((2, features), "f4"))
    y, tape = autograd.new_constant(tape, np.ones((2, 3), "f4"))
    w, tape = autograd.new_variable(tape, np.ones((features, 3), "f4"))
    product, tape = autograd.matmul(tape, x, w)
    loss, tape = nn.mse_loss(tape, product, y)
    step = program.compile_step(tape, loss=loss, params=[w], inputs=(x, y), optimizer=optim.SGD(lr=0.1))
    return step, program.compile_forward(tape, output=product, inputs=(x,))


@pytest.mark.parametrize(("features", "rows"), [(0, K), (0, 2**60), (1, K), (2, 2**58)])
def test_batches_of_any_size_leave_a_program_usable(features, rows):
    step, predict = program_of(features)
    X = np.empty((rows, 0), "f4") if features == 0 else huge(rows, features)
    small = np.ones((2, features), "f4"), np.ones((2, 3), "f4")
    wanted = predict(small[0])
    for call in (
        lambda: predict(X),
        lambda: step(X, huge(min(rows, K), 3)),
        lambda: step.run(X, huge(min(rows, K), 3), batch_size=10**30, shuffle=False),
    ):
        with pytest.raises((MemoryError, error.TensorError)):
            call()
    assert step.steps == 0
    assert step(*small) == program_of(features)[0](*small)
    assert np.array_equal(predict(small[0]), wanted)


def test_numbers_beyond_any_integer_of_c_change_nothing():
    step, _, X, Y = compiled()
    twin, _, _, _ = compiled()
    state = step.state()
    twin(X, Y)
    for steps in (2**62, 2**63, 10**30, -1):
        with pytest.raises(error.InvalidValue, match="whole number"):
            step.restore(twin.state()._replace(steps=steps))
        with pytest.raises(error.TensorError):
            optim.update(autograd.new_tape(), optim.SGD(lr=0.1), optim.State(steps, ()), params := (), params)
    with pytest.raises(error.InvalidValue):
        step.run(X, Y, batch_size=-(10**30), shuffle=False)
    assert digest(step) == digest(compiled()[0])
    step.run(X, Y, batch_size=10**30, shuffle=False)
    assert digest(step) == digest(twin)
    step.restore(state)


@pytest.mark.parametrize("index", [np.s_[2**63 : 2**64], np.s_[: -(10**30)], np.s_[0 : 2 : 10**30], np.s_[:: -(2**63)]])
def test_slices_of_huge_numbers_are_those_of_python(index):
    data = np.arange(6, dtype="f4").reshape(3, 2)
    x, tape = autograd.new_variable(autograd.new_tape(), data)
    part, tape = autograd.slice(tape, x, index)
    rows = range(3)[index]
    assert np.array_equal(part.data, data[list(rows)])
    predict = program.compile_forward(tape, output=part, inputs=(x,))
    assert np.array_equal(predict(data), part.data)
    total, tape = autograd.sum(tape, part)
    assert autograd.backward(tape, total)[x].sum() == 2 * len(rows)


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler cc, with which allocations are made to fail")
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="not glibc, whose allocations are made to fail")
def test_failing_allocations_are_memory_errors_that_leave_everything_usable(tmp_path):
    """Some of the points; tests/stress/allocations.py tries them all."""
    cases = ["kernels:5", "step", "step from lists:7", "run:5", "forward:9", "forward of new sizes:61", "state:11"]
    cases += ["record:67", "compile:199"]
    told = run_module("support.allocations", *cases, **allocation_shim.environment(allocation_shim.shim(tmp_path)))
    assert int(told.splitlines()[-1].split()[0]) > 400  # calls in which an allocation failed
