"""A recorded step of a network with relu between its layers, and the same step on the tape."""

import hashlib
from itertools import pairwise

import numpy as np

from viva_tensor import autograd, nn, optim, program

NETWORKS = {  # sizes of layers, and rows
    "in panels": ((40, 70, 33, 1), 100),  # weights only without a penalty
    "deeper than a block": ((24, 40, 10), 1500),
    "on a team": ((200, 300, 300, 10), 150),
    "thin": ((3, 1, 2, 1), 4),
    "narrow": ((5, 60, 8), 30),  # products that are computed transposed
}


def network(sizes, batch, dtype="float32", seed=0, penalty=0.0):
    """(x, y, layers, loss, tape) of a recorded step, and arrays for it; a penalty is on the squares of the weights."""
    rng = np.random.default_rng(seed)
    X, Y = (rng.standard_normal((batch, size)).astype(dtype) for size in (sizes[0], sizes[-1]))
    x, tape = autograd.new_constant(autograd.new_tape(), X)
    y, tape = autograd.new_constant(tape, Y)
    layers = []
    for fan_in, fan_out in pairwise(sizes):
        layer, tape = nn.linear(tape, fan_in, fan_out, rng=rng, dtype=dtype)
        layers.append(layer)
    loss, tape = forward(tape, layers, x, y, penalty)
    return x, y, tuple(layers), loss, tape


def compiled(optimizer, sizes, batch, dtype="float32", penalty=0.0, **options):
    """(X, Y, layers, step) of the step of a network, compiled, and a batch for it."""
    x, y, layers, loss, tape = network(sizes, batch, dtype, penalty=penalty)
    step = program.compile_step(tape, loss=loss, params=layers, inputs=(x, y), optimizer=optimizer, **options)
    return x.data, y.data, layers, step


def digest(made):
    """What four steps of each of what :func:`compiled` made come to: losses, parameters and moments."""
    found = hashlib.sha256()
    for X, Y, _, step in made:
        found.update(np.array([step(X, Y) for _ in range(4)]).tobytes())
        params, moments, *_ = step.state()
        for array in (*params, *(one for arrays in moments for one in arrays)):
            found.update(array.tobytes())
    return found.hexdigest()


def forward(tape, layers, x, y, penalty=0.0):
    for layer in layers[:-1]:
        x, tape = nn.linear_forward(tape, layer, x)
        x, tape = nn.relu(tape, x)
    x, tape = nn.linear_forward(tape, layers[-1], x)
    loss, tape = nn.mse_loss(tape, x, y)
    for layer in layers if penalty else ():
        squares, tape = autograd.sum_of_squares(tape, layer.w)
        scaled, tape = autograd.mul(tape, squares, penalty)
        loss, tape = autograd.add(tape, loss, scaled)
    return loss, tape


def eager(layers, batches, optimizer, penalty=0.0):
    """Losses, and layers after a step on each batch."""
    layers, tape = copied(layers)
    state = optim.init(optimizer, layers)
    losses = []
    for X, Y in batches:
        x, tape = autograd.new_constant(tape, X)
        y, tape = autograd.new_constant(tape, Y)
        loss, tape = forward(tape, layers, x, y, penalty)
        grads = autograd.backward(tape, loss)
        (layers, state), tape = optim.update(autograd.new_tape(), optimizer, state, layers, grads)
        losses.append(float(loss.data))
    return losses, layers


def in_pytorch(layers, activation):
    """Return a PyTorch model with the weights of layers and an activation between them."""
    import torch

    modules = []
    for layer in layers:
        module = torch.nn.Linear(*layer.w.data.shape[::-1], dtype=getattr(torch, str(layer.w.data.dtype)))
        with torch.no_grad():
            module.weight.copy_(torch.tensor(layer.w.data))
            module.bias.copy_(torch.tensor(layer.b.data))
        modules += [module, activation]
    return torch.nn.Sequential(*modules[:-1])


def copied(layers):
    tape = autograd.new_tape()
    new = []
    for layer in layers:
        w, tape = autograd.new_variable(tape, layer.w.data)
        b, tape = autograd.new_variable(tape, layer.b.data)
        new.append(nn.Linear(w, b))
    return tuple(new), tape


def same_state(one, other):
    """Return whether two states have the same steps and bits."""
    arrays = [[*state.params, *(array for kind in state.moments for array in kind)] for state in (one, other)]
    return one.steps == other.steps and all(np.array_equal(a, b) for a, b in zip(*arrays, strict=True))


def same(layers, others):
    return all(
        np.array_equal(one.data, other.data)
        for layer, twin in zip(layers, others, strict=True)
        for one, other in zip(layer, twin, strict=True)
    )
