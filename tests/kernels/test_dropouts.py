import numpy as np
import pytest

from viva_tensor import error, kernels


def split_mix(seed, count):
    """The first outputs of SplitMix64, one after another."""
    mask, state, found = (1 << 64) - 1, seed, []
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) & mask
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        found.append(z ^ (z >> 31))
    return found


@pytest.mark.parametrize("seed", [0, 1234567, (1 << 64) - 1])
@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.99])
def test_what_is_kept_is_what_split_mix_says(seed, rate, dtype, rng):
    x = rng.standard_normal((7, 41)).astype(dtype)
    kept = np.array([number >= rate * 2**64 for number in split_mix(seed, x.size)]).reshape(x.shape)
    wanted = np.where(kept, x * np.dtype(dtype).type(1 / (1 - rate)), 0)
    assert np.array_equal(kernels.dropout(x, rate, seed), wanted)
    assert np.array_equal(kernels.dropout_backward(x, rate, seed), wanted)
    assert np.array_equal(kernels.dropout(np.asfortranarray(x), rate, seed), wanted)
    for threads in (2, 3, 7):
        with kernels.num_threads(threads):
            assert np.array_equal(kernels.dropout(x, rate, seed), wanted)


def test_split_mix_is_the_published_one():
    # the first outputs from 1234567 of the reference implementation, as in Vigna's splitmix64.c and its translations
    assert split_mix(1234567, 3) == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_any_shape():
    for shape in ((), (3,), (2, 3, 4), (0, 3), (3, 0)):
        assert kernels.dropout(np.ones(shape), 0.5, 1).shape == shape


def test_bad_input_is_refused():
    for rate in (-0.1, 1.0, 2.0, np.nan):
        with pytest.raises(error.InvalidValue, match="rate"):
            kernels.dropout([1.0], rate, 0)
    for seed in (-1, 1 << 64):
        with pytest.raises(error.InvalidValue, match="seed"):
            kernels.dropout([1.0], 0.5, seed)
    with pytest.raises(error.DtypeError):
        kernels.dropout(np.ones(3, int), 0.5, 0)
