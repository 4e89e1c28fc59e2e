import numpy as np
import pytest

from viva_tensor.nn.initializers import he_uniform, xavier_uniform


@pytest.mark.parametrize(("draw", "variance"), [(xavier_uniform, 2 / (300 + 200)), (he_uniform, 2 / 300)])
def test_variance_is_that_of_the_paper(draw, variance):
    weight = draw(np.random.default_rng(0), 300, 200)
    assert weight.shape == (200, 300)
    # 60,000 draws: the sample variance of a uniform distribution is within 2% with room to spare (its s.d. is 0.4%).
    assert abs(weight.var() / variance - 1) < 0.02
