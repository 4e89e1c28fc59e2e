"""A molecule's energy learnt from energies and forces: Sobolev training, and forces as minus a gradient.

Three atoms attract and repel each other by Morse's potential [1]_, which stands for an expensive calculation:

.. math:: E = \\sum_{i < j} D (1 - e^{-a (r_{ij} - r_0)})^2, \\quad F_i = -\\partial E / \\partial x_i

A network predicts the energy from the distances. Its forces are minus its gradient, so they belong to an energy
whatever it has learnt. A calculation gives nine forces for each energy at hardly more cost; the example trains on the
same few geometries with the energies alone and with both [2]_.

    python -m viva_tensor.examples.molecule --picture molecule.png

.. [1] P. M. Morse, Diatomic molecules according to the wave mechanics II, Physical Review 34, 1929.
.. [2] W. M. Czarnecki et al., Sobolev training for neural networks, NeurIPS 2017, arXiv:1706.04859.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from viva_tensor import autograd, nn, optim, program
from viva_tensor.autograd import Tape, Traced, Variable
from viva_tensor.extras import extra

with extra("train"):
    import click

    from viva_tensor.options import PICTURE

Array = npt.NDArray[np.float64]
PAIRS = ((0, 1), (0, 2), (1, 2))
DEPTH, WIDTH, LENGTH = 1.0, 1.5, 1.0  # D in eV, a in 1/Å, r₀ in Å
SIZES = (3, 32, 32, 1)


class Geometries(NamedTuple):
    """Positions [n, 9] in Å, energies [n, 1] in eV, and forces [n, 9] in eV/Å."""

    positions: Array
    energies: Array
    forces: Array


class Errors(NamedTuple):
    """Root mean squared errors of energies in eV and forces in eV/Å."""

    energy: float
    force: float


def calculated(rng: np.random.Generator, count: int) -> Geometries:
    """Return random geometries around a triangle, with the energies and forces of Morse's potential."""
    corners = LENGTH * np.array([[0, 0, 0], [1, 0, 0], [0.5, np.sqrt(3) / 2, 0]])
    atoms = corners + 0.15 * rng.standard_normal((count, 3, 3))
    energy, force = np.zeros((count, 1)), np.zeros_like(atoms)
    for i, j in PAIRS:
        apart = atoms[:, i] - atoms[:, j]
        distance = np.linalg.norm(apart, axis=1, keepdims=True)
        fading = np.exp(-WIDTH * (distance - LENGTH))
        energy += DEPTH * (1 - fading) ** 2
        pull = -2 * DEPTH * WIDTH * (1 - fading) * fading * apart / distance
        force[:, i] += pull
        force[:, j] -= pull
    return Geometries(atoms.reshape(count, 9), energy, force.reshape(count, 9))


def energy_of(tape: Tape, layers: Any, positions: Variable) -> Traced[Variable]:
    """Record the network's energies, which depend on the distances alone."""
    distances = []
    for i, j in PAIRS:
        one, tape = autograd.slice(tape, positions, np.s_[:, 3 * i : 3 * i + 3])
        other, tape = autograd.slice(tape, positions, np.s_[:, 3 * j : 3 * j + 3])
        apart, tape = autograd.sub(tape, one, other)
        distance, tape = autograd.norm(tape, apart, axis=1, keepdims=True)
        distances.append(distance)
    features, tape = autograd.concatenate(tape, distances, axis=1)
    return nn.mlp_forward(tape, layers, features, activation="tanh")


def forces_of(tape: Tape, energy: Variable, positions: Variable) -> Traced[Variable]:
    """Record minus the gradient of the energy."""
    total, tape = autograd.sum(tape, energy)
    slope, tape = autograd.gradient(tape, total, positions)
    return autograd.mul(tape, slope, -1.0)


def trained(data: Geometries, weight: float, iterations: int) -> program.Forward:
    """Return a network, trained with a weight of the forces' error, as a function of positions: energies and forces."""
    rng = np.random.default_rng(0)
    layers, tape = nn.mlp(autograd.new_tape(), SIZES, rng=rng, activation="tanh", dtype="float64")
    variables = []
    for array in data:
        variable, tape = autograd.new_constant(tape, array)
        variables.append(variable)
    positions, energies, forces = variables
    energy, tape = energy_of(tape, layers, positions)
    loss, tape = nn.mse_loss(tape, energy, energies)
    force, tape = forces_of(tape, energy, positions)
    if weight:
        error, tape = nn.mse_loss(tape, force, forces)
        error, tape = autograd.mul(tape, error, weight)
        loss, tape = autograd.add(tape, loss, error)
    objective = program.compile_objective(tape, loss=loss, params=layers, inputs=variables)
    found = optim.lbfgs(lambda vector: objective(vector, *data), objective.start, max_iterations=iterations)
    layers, tape = objective.params(autograd.new_tape(), found.x)
    positions, tape = autograd.new_constant(tape, data.positions)
    energy, tape = energy_of(tape, layers, positions)
    force, tape = forces_of(tape, energy, positions)
    return program.compile_forward(tape, output=(energy, force), inputs=(positions,))


def errors(predict: program.Forward, data: Geometries) -> Errors:
    """Return the errors of a network on geometries."""
    energy, force = predict(data.positions)
    off = (np.sqrt(((a - b) ** 2).mean()) for a, b in ((energy, data.energies), (force, data.forces)))
    return Errors(*map(float, off))


def main(geometries: int = 60, iterations: int = 500, picture: str = "") -> tuple[Errors, Errors]:
    """Train on few geometries without and with forces, and return the errors of both networks on others."""
    rng = np.random.default_rng(1)
    data, others = calculated(rng, geometries), calculated(rng, 2000)
    without, both = (trained(data, weight, iterations) for weight in (0.0, 0.1))
    found = errors(without, others), errors(both, others)
    print(f"trained on {geometries} geometries; errors on 2,000 others")
    for name, one in zip(("energies alone", "energies and forces"), found, strict=True):
        print(f"  {name:20} energy {1000 * one.energy:6.1f} meV, force {1000 * one.force:6.1f} meV/Å")
    if picture:
        draw(picture, others, without, both)
    return found


def draw(path: str, data: Geometries, without: program.Forward, both: program.Forward) -> None:
    """Draw the forces of both networks over those of the potential."""
    with extra("plot"):
        from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(8, 4), sharex=True, sharey=True, layout="constrained")
    for ax, predict, title in zip(axes, (without, both), ("energies alone", "energies and forces"), strict=True):
        ax.plot(data.forces.ravel(), predict(data.positions)[1].ravel(), ",", alpha=0.6)
        ax.axline((0, 0), slope=1, color="black", linewidth=0.8)
        ax.set(title=f"trained on {title}", xlabel="force, eV/Å", xlim=(-8, 8), ylim=(-8, 8))
    axes[0].set_ylabel("force of the network, eV/Å")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


@click.command(context_settings={"show_default": True})
@click.option("--geometries", type=click.IntRange(min=1), default=60, help="Geometries to train on.")
@click.option("--picture", type=PICTURE, help="Draw the forces to this file.")
def command(geometries: int, picture: str | None) -> None:
    """Learn a molecule's energy from energies and forces."""
    main(geometries, picture=picture or "")


if __name__ == "__main__":
    command()
