"""Whatever array meets a kernel: the bits of a contiguous copy of it, or an error and nothing changed."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from numpy.lib.stride_tricks import as_strided
from support.buffers import KERNELS, calls, check

from viva_tensor import error, kernels

THREADS = {"get_num_threads", "num_threads", "set_num_threads"}


def test_every_kernel_is_tried():
    assert set(KERNELS) == set(kernels.__all__) - THREADS


@pytest.mark.parametrize("name", KERNELS)
@hypothesis.given(data=st.data())
@hypothesis.settings(max_examples=15, deadline=None)
def test_buffers_of_any_kind(name, data):
    call = data.draw(calls(name))
    hypothesis.target(float(sum(operand.odd for operand in call.operands)), label="odd")
    check(call, data.draw)


@pytest.mark.parametrize("strides", [(0, 8), (24, 0), (8, 8), (0, 0), (-8, 8)])
@pytest.mark.parametrize("call", [kernels.add, kernels.matmul, lambda a, b, out: kernels.relu(a, out=out)])
def test_an_output_whose_elements_share_memory_is_refused(call, strides):
    memory = np.zeros(20)
    out = as_strided(memory[10:], (3, 3), strides)
    with pytest.raises(error.InvalidValue, match=r"elements of out \(3, 3\) share memory"):
        call(np.ones((3, 3)), np.ones((3, 3)), out=out)
    with pytest.raises(error.InvalidValue, match="share memory"):
        kernels.add(np.ones((2, 3, 3)), 1.0, out=as_strided(memory, (2, 3, 3), (0, 24, 8)))
    assert not memory.any()


@pytest.mark.parametrize(("shape", "strides"), [((1, 5), (9, 8)), ((5, 1), (8, 3)), ((1, 5), (1 << 62, 16))])
def test_the_stride_of_one_element_says_nothing(shape, strides):
    x = as_strided(np.arange(12.0), shape, strides)
    same = np.array(x, order="C")
    assert np.array_equal(kernels.sqrt(x), np.sqrt(same))
    assert np.array_equal(kernels.add(same, x, out=as_strided(np.zeros(12), shape, strides)), 2 * same)
    assert np.array_equal(kernels.matmul(x, x.T), kernels.matmul(same, same.T))
    assert np.array_equal(kernels.sum(x, 0), kernels.sum(same, 0))
    assert np.array_equal(kernels.softmax(x), kernels.softmax(same))
    assert kernels.mean_squared_error(x, same) == 0


def test_a_column_of_one_record():
    record = np.zeros(1, [("x", "f4"), ("y", "f4"), ("flag", "u1")])
    record["x"] = 4
    assert kernels.sqrt(record["x"]) == kernels.sqrt(record["x"][None])[0] == 2


def test_nothing_lies_anywhere():
    empty = np.ndarray((0, 3), "f8", bytearray(9), 1)
    assert [one.shape for one in kernels.sgd(empty, empty, 0.1, 0.9, empty)] == [(0, 3)] * 2
    assert kernels.norm([empty]) == 0


@pytest.mark.parametrize("kind", ["f2", "i8", "?", "g", "c8", "O"])
def test_the_gradient_of_a_loss_is_float32_or_float64_in_any_layout(kind, dtype):
    x = np.ones((4, 3), dtype)
    for pred in (x, np.asfortranarray(x)):
        with pytest.raises(error.DtypeError, match="mean_squared_error_backward"):
            kernels.mean_squared_error_backward(np.ones((), kind), pred, x)


def test_infinite_probabilities_are_refused_without_a_warning():
    with pytest.raises(error.InvalidValue, match="probabilities of row 0"):
        kernels.cross_entropy(np.zeros((1, 2)), np.array([[np.inf, -np.inf]]))
