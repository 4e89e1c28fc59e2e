"""Ten compiled steps against PyTorch: weights and losses to rounding, for every loss and activation."""

import numpy as np
import pytest
from support.steps import in_pytorch

from viva_tensor import autograd, nn, optim, program

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
functional = torch.nn.functional

ACTIVATIONS = {
    "relu": torch.nn.ReLU(),
    "leaky_relu": torch.nn.LeakyReLU(),
    "gelu": torch.nn.GELU(),
    "silu": torch.nn.SiLU(),
    "mish": torch.nn.Mish(),
    "sigmoid": torch.nn.Sigmoid(),
    "tanh": torch.nn.Tanh(),
    "softplus": torch.nn.Softplus(threshold=100),
    "identity": torch.nn.Identity(),
}
LOSSES = {
    "mse": (nn.mse_loss, functional.mse_loss),
    "mae": (nn.mae_loss, functional.l1_loss),
    "huber": (nn.huber_loss, functional.huber_loss),
    "classes": (nn.cross_entropy, functional.cross_entropy),
    "probabilities": (nn.cross_entropy, functional.cross_entropy),
    "two classes": (nn.binary_cross_entropy, functional.binary_cross_entropy_with_logits),
}
OPTIMIZERS = {
    "sgd": (optim.SGD(lr=0.02, momentum=0.9), lambda params: torch.optim.SGD(params, lr=0.02, momentum=0.9)),
    "adam": (optim.Adam(lr=0.002), lambda params: torch.optim.Adam(params, lr=0.002)),
}
ROWS, SIZES, STEPS = 40, (12, 30, 20, 5), 10
# Sums of at most 40 products round by up to γ₄₀ = 40u of their terms, here of order 1; ten steps of six products each
# could add up to 2400u if all roundings pointed the same way. Adam divides by the root of the mean square, so that the
# relative error of a small gradient, which is a sum of large terms, goes into the weight times the rate.
BOUND = {"float32": 2400 * 2.0**-24, "float64": 2400 * 2.0**-53}


def target(loss, dtype, rng):
    if loss == "classes":
        return rng.integers(0, SIZES[-1], ROWS).astype(dtype)
    if loss == "probabilities":
        return rng.dirichlet(np.ones(SIZES[-1]), ROWS).astype(dtype)
    return rng.random((ROWS, SIZES[-1])).astype(dtype)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_ten_steps(activation, loss, optimizer, dtype):
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((ROWS, SIZES[0])).astype(dtype), target(loss, dtype, rng)
    layers, tape = nn.mlp(autograd.new_tape(), SIZES, rng=rng, activation=activation, dtype=dtype)
    model = in_pytorch(layers, ACTIVATIONS[activation])
    ours, theirs = LOSSES[loss]
    x, tape = autograd.new_constant(tape, X)
    y, tape = autograd.new_constant(tape, Y)
    out, tape = nn.mlp_forward(tape, layers, x, activation=activation)
    value, tape = ours(tape, out, y)
    record, make = OPTIMIZERS[optimizer]
    step = program.compile_step(tape, loss=value, params=layers, inputs=(x, y), optimizer=record)

    stepper = make(model.parameters())
    wanted = torch.tensor(Y).long() if loss == "classes" else torch.tensor(Y)
    bound = BOUND[np.dtype(dtype).name]
    for _ in range(STEPS):
        stepper.zero_grad()
        result = theirs(model(torch.tensor(X)), wanted)
        result.backward()
        stepper.step()
        assert step(X, Y) == pytest.approx(float(result.detach()), rel=bound)
    trained = step.params(autograd.new_tape()).value
    for layer, module in zip(trained, model[::2], strict=True):
        assert np.abs(layer.w.data - module.weight.detach().numpy()).max() <= bound
        assert np.abs(layer.b.data - module.bias.detach().numpy()).max() <= bound
