"""How long derivatives take, ours beside JAX's and PyTorch's.

usage: python asv_benchmarks/derivatives.py [--seconds 0.3] [--rounds 7]

A step of Adam on the residual of Burgers' equation, with a second derivative, by a network of 4 x 50 units at 1,000
points; forces, minus the gradient of an energy, by a network of 3 x 64 units at 256 points; for a network of
32-64-64-1 units and 128 rows, the product of the Hessian of its loss with a vector, and the gradients of each row's
loss; and products of batches of matrices. On two threads, in float32, from the same weights: the values are compared
first. Each library pauses before its turn, so that threads of the last one sleep. Prints medians in microseconds, and
ratios to ours.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from benchmarks import peers  # noqa: F401  # whose package unsets what slows NumPy here

from viva_tensor import autograd, kernels, nn, optim, program

THREADS, POINTS, VISCOSITY, LR = 2, 1000, 0.01 / np.pi, 1e-3
Case = dict[str, Callable[[], Any]]  # what each library computes


def weights_of(sizes: tuple[int, ...]) -> list[tuple[Any, Any]]:
    """Return weights and biases for all libraries."""
    layers, _ = nn.mlp(autograd.new_tape(), sizes, rng=np.random.default_rng(0), activation="tanh")
    return [(np.array(layer.w.data), np.array(layer.b.data)) for layer in layers]


def on_tape(weights: list[tuple[Any, Any]]) -> Any:
    """Return layers and a tape."""
    tape, layers = autograd.new_tape(), []
    for w, b in weights:
        first, tape = autograd.new_variable(tape, w)
        second, tape = autograd.new_variable(tape, b)
        layers.append(nn.Linear(first, second))
    return tuple(layers), tape


def in_torch(weights: list[tuple[Any, Any]]) -> torch.nn.Sequential:
    modules: list[torch.nn.Module] = []
    for i, (w, b) in enumerate(weights):
        layer = torch.nn.Linear(*w.shape[::-1])
        layer.weight.data, layer.bias.data = torch.tensor(w), torch.tensor(b)
        modules += [layer] if i == len(weights) - 1 else [layer, torch.nn.Tanh()]
    return torch.nn.Sequential(*modules)


def in_jax(weights: Any, x: Any) -> Any:
    *hidden, (w, b) = weights
    for v, c in hidden:
        x = jnp.tanh(x @ v.T + c)
    return (x @ w.T + b)[..., 0]


def burgers() -> Case:
    """Return a step on Burgers' equation, by gradients of gradients in each library."""
    points = np.random.default_rng(1).uniform(-1, 1, (POINTS, 2)).astype("f4")
    weights = weights_of((2, 50, 50, 50, 50, 1))
    layers, tape = on_tape(weights)
    both, tape = autograd.new_constant(tape, points)
    x, tape = autograd.slice(tape, both, np.s_[:, :1])
    t, tape = autograd.slice(tape, both, np.s_[:, 1:])
    joined, tape = autograd.concatenate(tape, (x, t), axis=1)
    u, tape = nn.mlp_forward(tape, layers, joined, activation="tanh")
    total, tape = autograd.sum(tape, u)
    (u_x, u_t), tape = autograd.gradient(tape, total, (x, t))
    total, tape = autograd.sum(tape, u_x)
    u_xx, tape = autograd.gradient(tape, total, x)
    carried, tape = autograd.mul(tape, u, u_x)
    spread, tape = autograd.mul(tape, u_xx, VISCOSITY)
    missed, tape = autograd.add(tape, u_t, carried)
    missed, tape = autograd.sub(tape, missed, spread)
    squares, tape = autograd.square(tape, missed)
    loss, tape = autograd.mean(tape, squares)
    step = program.compile_step(tape, loss=loss, params=layers, inputs=(both,), optimizer=optim.Adam(lr=LR))

    def jax_loss(weights: Any, points: Any) -> Any:
        def residual(x: Any, t: Any) -> Any:
            value = lambda x, t: in_jax(weights, jnp.stack([x, t]))  # noqa: E731
            u_x, u_t = jax.grad(value, (0, 1))(x, t)
            return u_t + value(x, t) * u_x - VISCOSITY * jax.grad(jax.grad(value))(x, t)

        return jnp.mean(jax.vmap(residual)(points[:, 0], points[:, 1]) ** 2)

    @jax.jit
    def jax_step(weights: Any, first: Any, second: Any, count: Any, points: Any) -> Any:
        loss, grads = jax.value_and_grad(jax_loss)(weights, points)
        first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, grads)
        second = jax.tree.map(lambda s, g: 0.999 * s + 0.001 * g * g, second, grads)
        rate, root = LR / (1 - 0.9**count), 1 / jnp.sqrt(1 - 0.999**count)
        new = jax.tree.map(lambda w, m, s: w - rate * m / (jnp.sqrt(s) * root + 1e-8), weights, first, second)
        return new, first, second, count + 1, loss

    held = jax.tree.map(jnp.asarray, weights)
    state = [held, jax.tree.map(jnp.zeros_like, held), jax.tree.map(jnp.zeros_like, held), jnp.float32(1)]
    on_device = jnp.asarray(points)

    def of_jax() -> float:
        *state[:], loss = jax_step(*state, on_device)
        return float(loss)

    model = in_torch(weights)
    adam = torch.optim.Adam(model.parameters(), lr=LR)

    def of_torch() -> float:
        x, t = (torch.tensor(points[:, i : i + 1], requires_grad=True) for i in (0, 1))
        u = model(torch.cat([x, t], 1))
        u_x, u_t = torch.autograd.grad(u.sum(), (x, t), create_graph=True)
        (u_xx,) = torch.autograd.grad(u_x.sum(), x, create_graph=True)
        loss = ((u_t + u * u_x - VISCOSITY * u_xx) ** 2).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        return loss.item()

    return {"viva_tensor": lambda: step(points), "JAX": of_jax, "PyTorch": of_torch}


def forces() -> Case:
    """Return forces of an energy, compiled where the library compiles."""
    positions = np.random.default_rng(1).standard_normal((256, 9)).astype("f4")
    weights = weights_of((9, 64, 64, 64, 1))
    layers, tape = on_tape(weights)
    x, tape = autograd.new_constant(tape, positions)
    energy, tape = nn.mlp_forward(tape, layers, x, activation="tanh")
    total, tape = autograd.sum(tape, energy)
    slope, tape = autograd.gradient(tape, total, x)
    force, tape = autograd.mul(tape, slope, -1.0)
    forward = program.compile_forward(tape, output=force, inputs=(x,))
    held, on_device = jax.tree.map(jnp.asarray, weights), jnp.asarray(positions)
    jitted = jax.jit(lambda x: -jax.grad(lambda x: in_jax(held, x).sum())(x))
    model = in_torch(weights)

    def of_torch() -> Any:
        x = torch.tensor(positions, requires_grad=True)
        return -torch.autograd.grad(model(x).sum(), x)[0]

    return {
        "viva_tensor": lambda: forward(positions),
        "JAX": lambda: np.asarray(jitted(on_device)),
        "PyTorch": of_torch,
    }


def in_torch_function(model: torch.nn.Sequential, tensors: Any, x: Any, y: Any) -> Any:
    names = [name for name, _ in model.named_parameters()]
    out = torch.func.functional_call(model, dict(zip(names, tensors, strict=True)), (x,))
    return ((out[..., 0] - y) ** 2).mean()


def regression() -> Any:
    """Return weights, rows and targets."""
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((128, 32)).astype("f4"), rng.standard_normal(128).astype("f4")
    return weights_of((32, 64, 64, 1)), x, y


def squares(weights: Any, X: Any, Y: Any) -> Any:
    """Return the squared error of each row, layers, inputs and a tape."""
    layers, tape = on_tape(weights)
    x, tape = autograd.new_constant(tape, X)
    y, tape = autograd.new_constant(tape, Y[:, None])
    out, tape = nn.mlp_forward(tape, layers, x, activation="tanh")
    miss, tape = autograd.sub(tape, out, y)
    square, tape = autograd.square(tape, miss)
    square, tape = autograd.reshape(tape, square, (-1,))
    return square, layers, (x, y), tape


def hessian_products() -> Case:
    """Return the product of a Hessian with a vector, for all parameters."""
    weights, x, y = regression()
    square, layers, inputs, tape = squares(weights, x, y)
    loss, tape = autograd.mean(tape, square)
    variables = optim.leaves(layers)
    arrays = [np.random.default_rng(2).standard_normal(one.shape).astype("f4") for one in variables]
    vectors = []
    for array in arrays:
        vector, tape = autograd.new_constant(tape, array)
        vectors.append(vector)
    products, tape = autograd.hvp(tape, loss, variables, vectors)
    forward = program.compile_forward(tape, output=products, inputs=(*inputs, *vectors))
    column = y[:, None]
    held, rows = jax.tree.map(jnp.asarray, weights), (jnp.asarray(x), jnp.asarray(y))
    jax_vectors = [tuple(map(jnp.asarray, arrays[i : i + 2])) for i in range(0, len(arrays), 2)]
    slopes = jax.grad(lambda weights: jnp.mean((in_jax(weights, rows[0]) - rows[1]) ** 2))
    jitted = jax.jit(lambda vectors: jax.jvp(slopes, (held,), (vectors,))[1])
    model = in_torch(weights)
    tensors, given = tuple(model.parameters()), (torch.tensor(x), torch.tensor(y))
    torch_vectors = tuple(map(torch.tensor, arrays))

    def of_torch() -> Any:
        loss = ((model(given[0])[:, 0] - given[1]) ** 2).mean()
        slopes = torch.autograd.grad(loss, tensors, create_graph=True)
        return torch.autograd.grad(slopes, tensors, torch_vectors)

    return {
        "viva_tensor": lambda: forward(x, column, *arrays),
        "JAX": lambda: jax.block_until_ready(jitted(jax_vectors)),
        "PyTorch": of_torch,
    }


def gradients_of_rows() -> Case:
    """Return the gradients of each row's loss."""
    weights, x, y = regression()
    square, layers, inputs, tape = squares(weights, x, y)
    each, tape = autograd.per_example_gradients(tape, square, optim.leaves(layers))
    forward = program.compile_forward(tape, output=each, inputs=inputs)
    column = y[:, None]
    held, rows = jax.tree.map(jnp.asarray, weights), (jnp.asarray(x), jnp.asarray(y))
    slope = jax.grad(lambda weights, x, y: (in_jax(weights, x) - y) ** 2)
    jitted = jax.jit(jax.vmap(lambda x, y: slope(held, x, y)))
    model = in_torch(weights)
    tensors, given = tuple(one.detach() for one in model.parameters()), (torch.tensor(x), torch.tensor(y))
    of_rows = torch.func.vmap(torch.func.grad(lambda *args: in_torch_function(model, *args)), in_dims=(None, 0, 0))
    return {
        "viva_tensor": lambda: forward(x, column),
        "JAX": lambda: jax.block_until_ready(jitted(*rows)),
        "PyTorch": lambda: of_rows(tensors, *given),
    }


def as_vector(value: Any) -> Any:
    """Return all numbers of an array, or of a tree of them."""
    return np.concatenate(
        [np.ravel(leaf.detach() if hasattr(leaf, "detach") else leaf) for leaf in jax.tree.leaves(value)]
    )


def batches(count: int, size: int) -> Case:
    """Return products of square matrices."""
    a, b = np.random.default_rng(1).standard_normal((2, count, size, size)).astype("f4")
    on_device, tensors, jitted = (
        (jnp.asarray(a), jnp.asarray(b)),
        (torch.tensor(a), torch.tensor(b)),
        jax.jit(jnp.matmul),
    )
    return {
        "viva_tensor": lambda: kernels.matmul(a, b),
        "NumPy": lambda: np.matmul(a, b),
        "JAX": lambda: jitted(*on_device).block_until_ready(),
        "PyTorch": lambda: torch.bmm(*tensors),
    }


def measured(case: Case, seconds: float, rounds: int) -> dict[str, float]:
    """Return the median time of each library's call in microseconds."""
    values = [as_vector(call()) for call in case.values()]
    for value in values[1:]:
        np.testing.assert_allclose(value, values[0], rtol=2e-3, atol=2e-4)
    times: dict[str, list[float]] = {library: [] for library in case}
    for _ in range(rounds):
        for library, call in case.items():
            time.sleep(0.3)
            call()
            start, calls = time.perf_counter(), 0
            while time.perf_counter() - start < seconds:
                call()
                calls += 1
            times[library].append((time.perf_counter() - start) / calls)
    return {library: 1e6 * statistics.median(found) for library, found in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=0.3)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(THREADS)
    cases = {
        "Burgers step": burgers(),
        "forces": forces(),
        "Hessian times vector": hessian_products(),
        "gradients of 128 rows": gradients_of_rows(),
        "64 products of 64 x 64": batches(64, 64),
        "512 products of 16 x 16": batches(512, 16),
    }
    with kernels.num_threads(THREADS):
        for name, case in cases.items():
            found = measured(case, options.seconds, options.rounds)
            ours = found["viva_tensor"]
            shown = ", ".join(f"{library} {value:,.1f} µs ({value / ours:.2f})" for library, value in found.items())
            print(f"{name}: {shown}", flush=True)


if __name__ == "__main__":
    main()
