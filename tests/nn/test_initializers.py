import numpy as np
import pytest

from viva_tensor import autograd, nn
from viva_tensor.nn.initializers import INITIALIZERS

VARIANCES = {"xavier": 2 / (300 + 200), "he": 2 / 300, "lecun": 1 / 300, "orthogonal": 1 / 300}


@pytest.mark.parametrize("name", INITIALIZERS)
def test_variance_is_that_of_the_paper(name):
    weight = INITIALIZERS[name](np.random.default_rng(0), 300, 200)
    assert weight.shape == (200, 300)
    # 60,000 draws: the sample variance is within 3% with room to spare (its s.d. is 0.4%, 0.6% if normal).
    assert abs(weight.var() / VARIANCES[name.split("_")[0]] - 1) < 0.03
    if "normal" in name and "orthogonal" not in name:
        assert np.abs(weight).max() > 3 * weight.std()
    if "uniform" in name and "orthogonal" not in name:
        assert np.abs(weight).max() <= np.sqrt(3 * VARIANCES[name.split("_")[0]])


@pytest.mark.parametrize("sizes", [(4, 9), (9, 4), (5, 5), (1, 3)])
@pytest.mark.parametrize("name", ["orthogonal_uniform", "orthogonal_normal"])
def test_orthogonal_rows_or_columns(sizes, name):
    weight = INITIALIZERS[name](np.random.default_rng(0), *sizes)
    assert weight.shape == sizes[::-1]
    square = weight @ weight.T if sizes[1] <= sizes[0] else weight.T @ weight
    assert np.allclose(square, np.eye(min(sizes)), atol=1e-14)


@pytest.mark.parametrize("name", INITIALIZERS)
def test_layers_take_each_of_them(name):
    layer, _ = nn.linear(autograd.new_tape(), 7, 5, rng=np.random.default_rng(0), init=name)
    again, _ = nn.linear(autograd.new_tape(), 7, 5, rng=np.random.default_rng(0), init=name)
    assert layer.w.data.shape == (5, 7)
    assert layer.w.data.dtype == np.float32
    assert np.array_equal(layer.w.data, again.w.data)
