"""Several outputs of one program: made where they stay, whatever they are to each other."""

import numpy as np
import pytest

from viva_tensor import autograd, kernels, program
from viva_tensor.program import forward as compiled
from viva_tensor.program import planning, thresholds


def recorded(x, c):
    """The input, and outputs: temporaries, one of them twice, views, a slice, the input and a constant."""
    x, tape = autograd.new_constant(autograd.new_tape(), x)
    c, tape = autograd.new_constant(tape, c)
    y, tape = autograd.mul(tape, x, x)
    z, tape = autograd.exp(tape, y)  # reads an output
    row, tape = autograd.reshape(tape, y, (-1,))
    some, tape = autograd.slice(tape, z, np.s_[:, 1:])
    turned, tape = autograd.transpose(tape, z)
    total, tape = autograd.sum(tape, some)
    return x, (z, y, z, row, some, x, c, turned, total), tape


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("rows", [6, 1, 0])
def test_outputs_have_the_values_of_the_tape(rows, threads, dtype, rng):
    c, given = rng.standard_normal(2).astype(dtype), rng.standard_normal((rows, 3)).astype(dtype)
    x, outputs, tape = recorded(rng.standard_normal((4, 3)).astype(dtype), c)
    with kernels.num_threads(threads), thresholds.changed(**thresholds.EVERYWHERE):
        forward = program.compile_forward(tape, output=outputs, inputs=(x,))
        first, second = forward(given), forward(-2 * given)
    for found, batch in ((first, given), (second, -2 * given)):
        _, wanted, _ = recorded(batch, c)
        assert [one.shape for one in found] == [one.shape for one in wanted]
        for one, variable in zip(found, wanted, strict=True):
            assert np.array_equal(one, variable.data)
    assert not any(np.shares_memory(one, other) for one in first for other in second)


class Fenced:
    """NumPy, but what `empty` returns has numbers around it that tell whether something wrote there."""

    def __init__(self):
        self.made = []

    def __getattr__(self, name):
        return getattr(np, name)

    def empty(self, shape, dtype):
        size = int(np.prod(shape))
        raw = np.full(size + 48, 12345, dtype)
        self.made.append((raw, size))
        return raw[16 : 16 + size].reshape(shape)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("rows", [6, 1, 0, 40])
def test_large_outputs_are_written_where_they_are_returned_and_nothing_beside_them(
    rows, threads, dtype, rng, monkeypatch
):
    fenced = Fenced()
    monkeypatch.setattr(planning, "RETURNED_BYTES", 0)
    monkeypatch.setattr(compiled, "np", fenced)
    c, given = rng.standard_normal(2).astype(dtype), rng.standard_normal((rows, 3)).astype(dtype)
    x, outputs, tape = recorded(rng.standard_normal((4, 3)).astype(dtype), c)
    _, wanted, _ = recorded(given, c)
    with kernels.num_threads(threads), thresholds.changed(**thresholds.EVERYWHERE):
        for some in (slice(9), slice(2), slice(8, 9), slice(4, 5)):
            forward = program.compile_forward(tape, output=outputs[some], inputs=(x,))
            for one, variable in zip(forward(given), wanted[some], strict=True):
                assert np.array_equal(one, variable.data)
        forward = program.compile_forward(tape, output=outputs[0], inputs=(x,))
        assert np.array_equal(forward(given), wanted[0].data)
    assert len(fenced.made) >= 9 + 2 + 1 + 1 + 1
    for raw, size in fenced.made:
        assert (raw[:16] == 12345).all()
        assert (raw[16 + size :] == 12345).all()


def test_only_large_outputs_are_returned_and_their_slots_end_with_those_of_inputs(rng):
    x, tape = autograd.new_constant(autograd.new_tape(), rng.standard_normal((8, 4096)).astype("f4"))
    outputs = []
    for factor in range(20):
        one, tape = autograd.mul(tape, x, float(factor))
        outputs.append(one)
    total, tape = autograd.sum(tape, outputs[3])
    forward = program.compile_forward(tape, output=(total, *outputs), inputs=(x,))
    found = forward(x.data)
    assert len(forward._recent[-1].plan.returned) == 15
    assert found[0] == total.data
    for factor, one in enumerate(found[1:]):
        assert np.array_equal(one, x.data * np.float32(factor))


def test_temporaries_are_made_where_outputs_stay_and_only_the_rest_is_copied(rng):
    x, outputs, tape = recorded(rng.standard_normal((4, 3)), rng.standard_normal(2))
    forward = program.compile_forward(tape, output=outputs[:2], inputs=(x,))
    assert "scale" not in str(forward)
    forward = program.compile_forward(tape, output=(*outputs[:2], x), inputs=(x,))
    assert str(forward).count(" = scale(") == 1


def test_parts_of_an_array_are_written_by_all_threads(rng):
    x, tape = autograd.new_constant(autograd.new_tape(), rng.standard_normal((8, 64, 1)))
    y, tape = autograd.new_constant(tape, rng.standard_normal((8, 1, 64)))
    z, tape = autograd.mul(tape, x, y)  # an instruction for each of 8 matrices, for one thread
    wide, tape = autograd.exp(tape, z)
    with kernels.num_threads(2), thresholds.changed(**thresholds.EVERYWHERE | {"elements": 1 << 14}):
        forward = program.compile_forward(tape, output=(z, wide), inputs=(x, y))
        for one, other in zip(forward(x.data, y.data), (z, wide), strict=True):
            assert np.array_equal(one, other.data)
        assert "1 barrier, balance 100%" in str(forward)


def test_a_sum_over_a_matrix_in_panels_writes_nothing_over_the_outputs_behind_it(dtype, rng):
    x, tape = autograd.new_constant(autograd.new_tape(), rng.standard_normal((16, 8)).astype(dtype))
    w, tape = autograd.new_constant(tape, rng.standard_normal((8, 6)).astype(dtype))
    v, tape = autograd.new_constant(tape, rng.standard_normal((6, 8)).astype(dtype))
    product, tape = autograd.matmul(tape, x, w)  # lies in panels, which are wider than it
    total, tape = autograd.sum(tape, product, axis=0)
    last, tape = autograd.matmul(tape, product, v)
    other, tape = autograd.matmul(tape, last, w)
    outputs = total, last, other
    forward = program.compile_forward(tape, output=outputs, inputs=(x, w, v))
    for one, wanted in zip(forward(x.data, w.data, v.data), outputs, strict=True):
        assert np.array_equal(one, wanted.data)
