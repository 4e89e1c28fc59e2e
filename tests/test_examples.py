"""The worked examples run, and find in real data what is there."""

import pytest


def test_diamonds(capsys):
    from viva_tensor.examples import diamonds

    # the logarithm of the carats alone explains 93% of the logarithm of the price
    assert diamonds.main(epochs=10) > 0.92
    shown = capsys.readouterr().out
    assert "tanh(%6)" in shown
    assert "matmul + update" in shown


def test_digits(capsys):
    pytest.importorskip("sklearn", reason="scikit-learn, which holds the images, is not installed")
    from viva_tensor.examples import digits

    assert digits.main(epochs=20) > 0.95
    assert "as many" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")  # that it would go on longer than it is let
def test_cancer(capsys):
    pytest.importorskip("sklearn", reason="scikit-learn, which holds the cases, is not installed")
    from viva_tensor.examples import cancer

    assert cancer.main(max_iter=100, folds=2) > 0.93
    assert "malignant" in capsys.readouterr().out


def test_burgers_equation(capsys):
    from viva_tensor.examples import burgers

    # a solution without the front, or with it elsewhere, is off by more than half
    assert burgers.main(steps=500, iterations=800, inside=1500) < 0.45
    assert "L-BFGS" in capsys.readouterr().out


def test_molecule(capsys):
    from viva_tensor.examples import molecule

    without, both = molecule.main(iterations=300)
    assert both.force < 0.75 * without.force
    assert both.energy < 0.75 * without.energy
    assert "meV" in capsys.readouterr().out


def test_uncertainty(capsys):
    from viva_tensor.examples import uncertainty

    assert uncertainty.main(rows=8000, size=3, epochs=10) < 0.05
    assert "intervals hold" in capsys.readouterr().out
