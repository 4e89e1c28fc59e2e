"""How sure is a prediction? An ensemble of networks that predict a mean and a variance, on the prices of diamonds.

Each network has two outputs, the mean and the logarithm of the variance of the log price, and minimises the negative
log-likelihood of a normal distribution [1]_. An ensemble of them adds what the networks disagree on [2]_:

.. math:: \\mu = \\overline{\\mu_k}, \\quad \\sigma^2 = \\overline{\\sigma_k^2} + \\overline{(\\mu_k - \\mu)^2}

It is calibrated if as many prices lie within each interval as it says.

    python -m viva_tensor.examples.uncertainty --picture uncertainty.png

.. [1] D. A. Nix and A. S. Weigend, Estimating the mean and variance of the target probability distribution, ICNN 1994.
.. [2] B. Lakshminarayanan, A. Pritzel and C. Blundell, Simple and scalable predictive uncertainty estimation using deep
   ensembles, NeurIPS 2017, arXiv:1612.01474.
"""

from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from viva_tensor import autograd, nn, optim, program
from viva_tensor.examples.diamonds import COLUMNS, standardised
from viva_tensor.extras import extra

with extra("train"):
    import click

    from viva_tensor.options import PICTURE
    from viva_tensor.tabular.data import diamonds_path
    from viva_tensor.tabular.reading import read_table

Array = npt.NDArray[np.float32]
SIZES = (len(COLUMNS), 32, 32, 2)
LEVELS = np.linspace(0.05, 0.95, 19)


def member(seed: int, X: Array, Y: Array, epochs: int) -> program.Forward:
    """Return a trained network as a function of features: means and logarithms of variances."""
    rng = np.random.default_rng(seed)
    layers, tape = nn.mlp(autograd.new_tape(), SIZES, rng=rng, activation="silu")
    x, tape = autograd.new_constant(tape, X[:256])
    y, tape = autograd.new_constant(tape, Y[:256])
    out, tape = nn.mlp_forward(tape, layers, x, activation="silu")
    (mean, log_variance), tape = autograd.split(tape, out, 2, axis=1)
    loss, tape = nn.gaussian_loss(tape, mean, log_variance, y)
    step = program.compile_step(
        tape, loss=loss, params=layers, inputs=(x, y), optimizer=optim.AdamW(lr=0.003, clip_norm=1.0)
    )
    steps = epochs * (len(X) // 256 + 1)
    step.run(X, Y, batch_size=256, epochs=epochs, rng=rng, schedule=optim.schedules.one_cycle(0.003, steps))
    layers, tape = step.params(autograd.new_tape())
    x, tape = autograd.new_constant(tape, X[:256])
    out, tape = nn.mlp_forward(tape, layers, x, activation="silu")
    return program.compile_forward(tape, output=out, inputs=(x,))


def predicted(members: list[program.Forward], X: Array) -> tuple[Array, Array]:
    """Return the mean and the standard deviation of an ensemble's predictions."""
    found = np.stack([one(X) for one in members])
    means, variances = found[..., 0], np.exp(found[..., 1])
    return means.mean(0), np.sqrt(variances.mean(0) + means.var(0))


def coverage(mean: Array, deviation: Array, Y: Array) -> Array:
    """Return the share of targets within the central interval of each level."""
    widths = np.array([NormalDist().inv_cdf((1 + level) / 2) for level in LEVELS])
    off = np.abs(Y - mean) / deviation
    return np.asarray((off[None] <= widths[:, None]).mean(1), np.float32)


def main(rows: int = 20_000, size: int = 5, epochs: int = 15, picture: str = "") -> float:
    """Train, print the calibration, and return by how much coverage misses its level on average."""
    X, Y = standardised(read_table(diamonds_path()).sample(rows, random_state=0))
    train, test = slice(0, rows * 3 // 4), slice(rows * 3 // 4, rows)
    members = [member(seed, X[train], Y[train], epochs) for seed in range(size)]
    mean, deviation = predicted(members, X[test])
    target = Y[test, 0]
    share = coverage(mean, deviation, target)
    missed = float(np.abs(share - LEVELS).mean())
    explained = 1 - float(((mean - target) ** 2).mean() / target.var())
    print(
        f"{size} networks on {rows * 3 // 4:,} diamonds; {100 * explained:.1f}% of the log price's variance explained"
    )
    for level, found in zip(LEVELS[1::4], share[1::4], strict=True):
        print(f"  {100 * level:3.0f}% intervals hold {100 * found:5.1f}% of {len(target):,} other prices")
    sure, unsure = (np.abs(mean - target)[order].mean() for order in np.array_split(np.argsort(deviation), 2))
    print(f"  the surer half is off by {sure:.3f} standard deviations of the log price, the other by {unsure:.3f}")
    if picture:
        draw(picture, mean, deviation, target, share)
    return missed


def draw(path: str, mean: Array, deviation: Array, target: Array, share: Array) -> None:
    """Draw the coverage over its level, and errors over the predicted deviation."""
    with extra("plot"):
        from matplotlib import pyplot

    figure, (levels, errors) = pyplot.subplots(1, 2, figsize=(9, 4), layout="constrained")
    levels.plot(LEVELS, share, "o-")
    levels.axline((0, 0), slope=1, color="black", linewidth=0.8)
    levels.set(xlabel="level of the interval", ylabel="share of prices within", title="calibration")
    errors.plot(deviation, np.abs(mean - target), ",", alpha=0.6)
    errors.axline((0, 0), slope=1, color="black", linewidth=0.8, label="one standard deviation")
    errors.set(xlabel="predicted standard deviation", ylabel="error", xscale="log", yscale="log", ylim=(1e-4, 5))
    errors.legend()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


@click.command()
@click.option("--picture", type=PICTURE, help="Draw the calibration to this file.")
def command(picture: str | None) -> None:
    """Predict prices with intervals that hold what they say."""
    main(picture=picture or "")


if __name__ == "__main__":
    command()
