"""A physics-informed network: Burgers' equation, with derivatives of the network in its loss, against its solution.

.. math:: u_t + u u_x = \\nu u_{xx}, \\quad u(x, 0) = -\\sin \\pi x, \\quad u(\\pm 1, t) = 0, \\quad \\nu = 0.01 / \\pi

The network learns u(x, t) from the equation alone [1]_: at points inside, the equation must hold; at the start and at
the walls, the conditions. Derivatives along x and t are tangents, recorded on the same tape as the network and compiled
with it. Adam comes first, then L-BFGS. A front forms at x = 0, which makes the problem hard. The solution to compare
with is an integral [2]_, computed by quadrature.

    python -m viva_tensor.examples.burgers --picture burgers.png

.. [1] M. Raissi, P. Perdikaris and G. E. Karniadakis, Physics-informed neural networks, Journal of Computational
   Physics 378, 2019.
.. [2] C. Basdevant et al., Spectral and finite difference solutions of the Burgers equation, Computers and Fluids
   14(1), 1986; by the transformation of E. Hopf and J. D. Cole.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from viva_tensor import autograd, nn, optim, program
from viva_tensor.autograd import Tape, Traced, Variable
from viva_tensor.extras import extra

with extra("train"):
    import click

    from viva_tensor.options import PICTURE

Array = npt.NDArray[np.float64]
VISCOSITY = 0.01 / np.pi
SIZES = (2, 20, 20, 20, 20, 1)


def solution(x: Array, t: Array, nodes: int = 100) -> Array:
    """Return the exact solution at points with t > 0, by Gauss-Hermite quadrature of Hopf's and Cole's integral."""
    z, weight = np.polynomial.hermite.hermgauss(nodes)
    y = x[..., None] - z * np.sqrt(4 * VISCOSITY * t[..., None])
    kernel = weight * np.exp(-np.cos(np.pi * y) / (2 * np.pi * VISCOSITY))
    return np.asarray(-(np.sin(np.pi * y) * kernel).sum(-1) / kernel.sum(-1))


def points(rng: np.random.Generator, inside: int, edge: int) -> tuple[Array, Array, Array]:
    """Return points (x, t) inside, half of them near the front, points at the edge, and the values of u at these."""
    near = np.clip(0.1 * rng.standard_normal(inside // 2), -1, 1)
    within = np.stack([np.concatenate([rng.uniform(-1, 1, inside - len(near)), near]), rng.uniform(0, 1, inside)], 1)
    start = np.stack([rng.uniform(-1, 1, edge), np.zeros(edge)], 1)
    walls = np.stack([rng.choice([-1.0, 1.0], edge), rng.uniform(0, 1, edge)], 1)
    known = np.concatenate([-np.sin(np.pi * start[:, :1]), np.zeros((edge, 1))])
    return within, np.concatenate([start, walls]), known


def residual(tape: Tape, layers: Any, within: Variable) -> Traced[Variable]:
    """Record by how much the network misses the equation at each point."""
    x, tape = autograd.slice(tape, within, np.s_[:, :1])
    t, tape = autograd.slice(tape, within, np.s_[:, 1:])
    both, tape = autograd.concatenate(tape, (x, t), axis=1)
    u, tape = nn.mlp_forward(tape, layers, both, activation="tanh")
    ones = np.ones(x.shape, x.dtype)
    u_x, tape = autograd.jvp(tape, u, x, ones)
    u_t, tape = autograd.jvp(tape, u, t, ones)
    u_xx, tape = autograd.jvp(tape, u_x, x, ones)
    carried, tape = autograd.mul(tape, u, u_x)
    spread, tape = autograd.mul(tape, u_xx, VISCOSITY)
    change, tape = autograd.add(tape, u_t, carried)
    return autograd.sub(tape, change, spread)


def loss_of(tape: Tape, layers: Any, within: Array, edge: Array, known: Array) -> Traced[tuple[Variable, Any]]:
    """Record the mean squared residual and the mean squared error at the edge; return their sum and the inputs."""
    inside, tape = autograd.new_constant(tape, within)
    beside, tape = autograd.new_constant(tape, edge)
    wanted, tape = autograd.new_constant(tape, known)
    missed, tape = residual(tape, layers, inside)
    squares, tape = autograd.square(tape, missed)
    equation, tape = autograd.mean(tape, squares)
    u, tape = nn.mlp_forward(tape, layers, beside, activation="tanh")
    conditions, tape = nn.mse_loss(tape, u, wanted)
    loss, tape = autograd.add(tape, equation, conditions)
    return Traced((loss, (inside, beside, wanted)), tape)


def predictor(layers: Any) -> program.Forward:
    """Return the network as a compiled function of points."""
    tape, known = autograd.new_tape(), {}
    for layer in layers:
        for variable in layer:
            known[variable], tape = autograd.new_variable(tape, variable.data)
    layers = optim.replaced(layers, known.__getitem__)
    x, tape = autograd.new_constant(tape, np.zeros((2, 2)))
    u, tape = nn.mlp_forward(tape, layers, x, activation="tanh")
    return program.compile_forward(tape, output=u, inputs=(x,))


def main(steps: int = 500, iterations: int = 4000, inside: int = 2000, picture: str = "") -> float:
    """Train, print how the error falls, and return the relative error, ‖u - exact‖ / ‖exact‖."""
    rng = np.random.default_rng(0)
    data = points(rng, inside, edge=100)
    layers, tape = nn.mlp(autograd.new_tape(), SIZES, rng=rng, activation="tanh", dtype="float64")
    (loss, inputs), tape = loss_of(tape, layers, *data)
    x, t = np.meshgrid(np.linspace(-1, 1, 201), np.linspace(0.01, 1, 100))
    exact = solution(x, t)

    def error(layers: Any) -> float:
        found = predictor(layers)(np.stack([x.ravel(), t.ravel()], 1)).reshape(x.shape)
        return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))

    step = program.compile_step(tape, loss=loss, params=layers, inputs=inputs, optimizer=optim.Adam(lr=0.003))
    for _ in range(steps):
        value = step(*data)
    layers, _ = step.params(autograd.new_tape())
    print(f"after {steps} steps of Adam: loss {value:.2e}, relative error {error(layers):.4f}")

    tape = autograd.new_tape()
    layers, tape = step.params(tape)
    (loss, inputs), tape = loss_of(tape, layers, *data)
    objective = program.compile_objective(tape, loss=loss, params=layers, inputs=inputs)
    found = optim.lbfgs(
        lambda vector: objective(vector, *data),
        objective.start,
        history=50,
        value_tolerance=0,
        max_iterations=iterations,
    )
    layers, _ = objective.params(autograd.new_tape(), found.x)
    missed = error(layers)
    print(f"after {found.iterations} iterations of L-BFGS: loss {found.value:.2e}, relative error {missed:.4f}")
    if picture:
        draw(picture, layers, exact, x, t)
    return missed


def draw(path: str, layers: Any, exact: Array, x: Array, t: Array) -> None:
    """Draw the network's solution over x and t, and three of its profiles beside the exact ones."""
    with extra("plot"):
        from matplotlib import pyplot

    found = predictor(layers)(np.stack([x.ravel(), t.ravel()], 1)).reshape(x.shape)
    figure, (whole, lines) = pyplot.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    shown = whole.pcolormesh(t, x, found, cmap="RdBu_r", shading="gouraud", rasterized=True)
    figure.colorbar(shown, ax=whole, label="u")
    whole.set(xlabel="t", ylabel="x", title="network")
    for row, colour in ((24, "tab:blue"), (49, "tab:orange"), (98, "tab:green")):
        lines.plot(x[row], exact[row], color=colour, label=f"exact, t = {t[row, 0]:.2f}")
        lines.plot(x[row, ::5], found[row, ::5], ".", color=colour)
    lines.set(xlabel="x", ylabel="u", title="exact (lines) and network (points)")
    lines.legend()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


@click.command(context_settings={"show_default": True})
@click.option("--steps", type=click.IntRange(min=1), default=500, help="Steps of Adam.")
@click.option("--iterations", type=click.IntRange(min=1), default=4000, help="Iterations of L-BFGS.")
@click.option("--picture", type=PICTURE, help="Draw the solution to this file.")
def command(steps: int, iterations: int, picture: str | None) -> None:
    """Solve Burgers' equation with a network."""
    main(steps, iterations, picture=picture or "")


if __name__ == "__main__":
    command()
