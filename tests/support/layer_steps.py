"""Steps of layers in any tree, on the tape, compiled and in PyTorch."""

import numpy as np

from viva_tensor import autograd, checkpoint, optim, program
from viva_tensor.autograd.tape import new_leaves
from viva_tensor.optim import trees


def leaves(layers):
    """The arrays of a tree of layers."""
    return [variable.data for variable in trees.leaves(layers)]


def filled(layers, rng, dtype="float64"):
    """A tree of layers with every weight drawn anew, none of them at a value it begins with, and its tape."""
    tape = autograd.new_tape()

    def new(variable):
        nonlocal tape
        drawn = rng.standard_normal(variable.data.shape) * 0.4 + 0.1
        made, tape = autograd.new_variable(tape, drawn.astype(dtype))
        return made

    return trees.replaced(layers, new), tape


def constants(tape, arrays):
    return new_leaves(tape, arrays, autograd.new_constant)


def on_the_tape(layers, tape, record, batches, optimizer):
    """Losses, and layers after a step on each batch; ``record(tape, layers, inputs)`` returns the loss."""
    state, losses = optim.init(optimizer, layers), []
    for batch in batches:
        inputs, tape = constants(tape, batch)
        loss, tape = record(tape, layers, inputs)
        grads = autograd.backward(tape, loss)
        (layers, state), tape = optim.update(autograd.new_tape(), optimizer, state, layers, grads)
        losses.append(float(loss.data))
    return losses, layers


def compiled_step(layers, tape, record, batch, optimizer):
    inputs, tape = constants(tape, batch)
    loss, tape = record(tape, layers, inputs)
    return program.compile_step(tape, loss=loss, params=layers, inputs=inputs, optimizer=optimizer)


def compiled(layers, tape, record, batches, optimizer):
    """The same by one compiled step, recorded on the first batch."""
    step = compiled_step(layers, tape, record, batches[0], optimizer)
    losses = [step(*batch) for batch in batches]
    return losses, step.params(autograd.new_tape()).value


def check_compiled(layers, tape, record, batches):
    """Check that both have the same bits for batches of any size."""
    adam = optim.AdamW(lr=0.01, weight_decay=0.1)
    one, other = (run(layers, tape, record, batches, adam) for run in (on_the_tape, compiled))
    assert one[0] == other[0]
    for a, b, before in zip(leaves(one[1]), leaves(other[1]), leaves(layers), strict=True):
        assert np.array_equal(a, b)
        assert not np.array_equal(a, before)


def check_resumed(trained, other, record, batches, folder):
    """Check that a step of other weights goes on from a checkpoint like the one that wrote it."""
    adam = optim.AdamW(lr=0.01, weight_decay=0.1)
    step, again = (compiled_step(*start, record, batches[0], adam) for start in (trained, other))
    for batch in batches:
        step(*batch)
    kept = checkpoint.load(checkpoint.save(folder / "c.safetensors", checkpoint.Checkpoint(step.state(), adam)))
    again.restore(kept.state)
    for one in (step, again):
        one(*batches[0])
    for a, b in zip(*(leaves(one.params(autograd.new_tape()).value) for one in (step, again)), strict=True):
        assert np.array_equal(a, b)


def in_pytorch(loss_of, parameters, batches):
    """Losses of PyTorch, which changes the parameters by AdamW; ``loss_of(*batch)`` returns the loss."""
    import torch

    adam, losses = torch.optim.AdamW(parameters, lr=0.01, weight_decay=0.1), []
    for batch in batches:
        adam.zero_grad()
        loss = loss_of(*map(torch.tensor, batch))
        loss.backward()
        adam.step()
        losses.append(loss.item())
    return losses
