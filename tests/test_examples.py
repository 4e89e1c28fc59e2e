"""The worked examples run, and find in real data what is there."""

import importlib

import pytest
from click.testing import CliRunner


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


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("diamonds", ["--rows", "10000000"], "10000000 is not in the range 2<=x<=53940"),
        ("cancer", ["--folds", "1000"], "1000 is not in the range 2<=x<=159"),
        ("burgers", ["--picture", "none/x.png"], "there is no folder none"),
        ("molecule", ["--picture", "none/x.png"], "there is no folder none"),
        ("uncertainty", ["--picture", "."], "is a directory"),
    ],
)
def test_what_cannot_be_is_refused_before_the_work(name, arguments, said):
    if name == "cancer":
        pytest.importorskip("sklearn", reason="scikit-learn, which holds the cases, is not installed")
    command = importlib.import_module(f"viva_tensor.examples.{name}").command
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 2
    assert said in result.stderr


def test_help_shows_defaults():
    for name, said in (("burgers", "default: 500"), ("molecule", "default: 60")):
        command = importlib.import_module(f"viva_tensor.examples.{name}").command
        assert said in CliRunner().invoke(command, ["--help"]).stdout
