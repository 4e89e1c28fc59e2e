"""Each optimiser against its formula in float64, and against PyTorch; hyperparameters out of range."""

import pickle

import numpy as np
import pytest

from viva_tensor import autograd, error, optim
from viva_tensor.error import InvalidValue
from viva_tensor.optim import SGD, Adam, AdamW, Lion, RMSprop

OPTIMIZERS = {
    "sgd": SGD(lr=0.05),
    "sgd, decay": SGD(lr=0.05, weight_decay=0.1),
    "momentum": SGD(lr=0.05, momentum=0.9),
    "all momentum": SGD(lr=0.05, momentum=1.0),
    "nesterov": SGD(lr=0.05, momentum=0.9, nesterov=True),
    "nesterov, decay": SGD(lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.1),
    "adam": Adam(lr=0.02),
    "adam, decay": Adam(lr=0.02, betas=(0.8, 0.9), eps=1e-6, weight_decay=0.1),
    "adam, no memory": Adam(lr=0.02, betas=(0.0, 0.0)),
    "adamw": AdamW(lr=0.02, weight_decay=0.1),
    "lion": Lion(lr=0.02, weight_decay=0.1),
    "lion, other memory": Lion(lr=0.02, betas=(0.5, 0.8)),
    "rmsprop": RMSprop(lr=0.02),
    "rmsprop, all momentum": RMSprop(lr=0.02, momentum=1.0),
    "rmsprop, momentum": RMSprop(lr=0.02, alpha=0.9, eps=1e-6, momentum=0.9, weight_decay=0.1),
}
CLIPPED = {
    f"{name}, clipped": type(one)(**{k: getattr(one, k) for k in one.__dataclass_fields__} | {"clip_norm": 2.0})
    for name, one in OPTIMIZERS.items()
}
STEPS = 10
SHAPES = ((13, 37), (5,), ())


def in_numpy(optimizer, weights, gradients):
    """Weights after steps by the plain formulas, in float64; ``gradients`` holds those of each step."""
    weights = [w.astype(np.float64) for w in weights]
    v = [np.zeros_like(w) for w in weights]
    s = [np.zeros_like(w) for w in weights]
    for n, step in enumerate(gradients, 1):
        grads = [grad.astype(np.float64) for grad in step]
        if optimizer.clip_norm is not None:
            norm = np.sqrt(sum((grad**2).sum() for grad in grads))
            grads = [grad * min(1, optimizer.clip_norm / (norm + 1e-6)) for grad in grads]
        for i, g in enumerate(grads):
            w = weights[i]
            if isinstance(optimizer, (AdamW, Lion)):
                w = w - optimizer.lr * optimizer.weight_decay * w
            else:
                g = g + optimizer.weight_decay * w
            if isinstance(optimizer, SGD):
                v[i] = optimizer.momentum * v[i] + g
                d = g + optimizer.momentum * v[i] if optimizer.nesterov else v[i]
            elif isinstance(optimizer, Lion):
                first, second = optimizer.betas
                d = np.sign(first * v[i] + (1 - first) * g)
                v[i] = second * v[i] + (1 - second) * g
            elif isinstance(optimizer, RMSprop):
                s[i] = optimizer.alpha * s[i] + (1 - optimizer.alpha) * g**2
                v[i] = optimizer.momentum * v[i] + g / (np.sqrt(s[i]) + optimizer.eps)
                d = v[i]
            else:
                first, second = optimizer.betas
                v[i] = first * v[i] + (1 - first) * g
                s[i] = second * s[i] + (1 - second) * g**2
                d = v[i] / (1 - first**n) / (np.sqrt(s[i] / (1 - second**n)) + optimizer.eps)
            weights[i] = w - optimizer.lr * d
    return weights


def in_pytorch(torch, optimizer, weights, gradients):
    kind = {SGD: torch.optim.SGD, Adam: torch.optim.Adam, AdamW: torch.optim.AdamW, RMSprop: torch.optim.RMSprop}
    options = {k: getattr(optimizer, k) for k in optimizer.__dataclass_fields__ if k != "clip_norm"}
    params = [torch.nn.Parameter(torch.tensor(w)) for w in weights]
    stepper = kind[type(optimizer)](params, **options)
    for step in gradients:
        for param, grad in zip(params, step, strict=True):
            param.grad = torch.tensor(grad)
        if optimizer.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(params, optimizer.clip_norm)
        stepper.step()
    return [param.detach().numpy() for param in params]


def ours(optimizer, weights, gradients):
    tape = autograd.new_tape()
    params = []
    for w in weights:
        variable, tape = autograd.new_variable(tape, w)
        params.append(variable)
    state = optim.init(optimizer, params)
    for step in gradients:
        grads = {variable.id: grad for variable, grad in zip(params, step, strict=True)}
        (params, state), _ = optim.update(autograd.new_tape(), optimizer, state, params, grads)
    assert state.steps == len(gradients)
    return [variable.data for variable in params]


def problem(dtype, seed=0):
    rng = np.random.default_rng(seed)
    weights = [rng.standard_normal(shape).astype(dtype) for shape in SHAPES]
    gradients = [[rng.standard_normal(shape).astype(dtype) for shape in SHAPES] for _ in range(STEPS)]
    return weights, gradients


def assert_close(optimizer, got, expected, dtype, factor=1):
    """Within rounding: a step moves a weight by lr times a number of size 1 to 10 that some 10 roundings went into
    (Adam without memory: the sign of the gradient), and each of the weights itself is rounded once in a step."""
    u = np.finfo(dtype).eps / 2
    for one, other in zip(got, expected, strict=True):
        assert one.dtype == dtype
        bound = factor * u * STEPS * (np.abs(other) + 4 + 100 * optimizer.lr)
        assert (np.abs(one - other) <= bound).all(), (np.abs(one - other) / bound).max()


@pytest.mark.parametrize("name", OPTIMIZERS | CLIPPED)
def test_ten_steps_follow_the_formula(name, dtype):
    optimizer = (OPTIMIZERS | CLIPPED)[name]
    weights, gradients = problem(dtype)
    assert_close(optimizer, ours(optimizer, weights, gradients), in_numpy(optimizer, weights, gradients), dtype)


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS | CLIPPED if "lion" not in name])  # which it lacks
def test_ten_steps_are_those_of_pytorch(name, dtype):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    optimizer = (OPTIMIZERS | CLIPPED)[name]
    weights, gradients = problem(dtype, 1)
    expected = in_pytorch(torch, optimizer, weights, gradients)
    assert_close(optimizer, ours(optimizer, weights, gradients), expected, dtype, factor=2)


def test_adam_keeps_its_memory_of_a_large_gradient_and_of_a_small_one(dtype):
    """A gradient whose square overflows stops its weight; one that falls to nothing leaves no wrong length behind."""
    w, tape = autograd.new_variable(autograd.new_tape(), np.ones(2, dtype))
    adam = Adam(lr=0.1, betas=(0.0, 0.0))
    large = np.sqrt(np.finfo(dtype).max) * 4
    grads = [np.array([large, 1], dtype), np.array([1, 1e-7], dtype)]
    (w, state), _ = optim.update(tape, adam, optim.init(adam, w), w, {w.id: grads[0]})
    assert np.allclose(w.data, [1.0, 0.9])
    adam = Adam(lr=0.1, betas=(0.0, 0.0), eps=0.0)
    (w, state), _ = optim.update(tape, adam, state, w, {w.id: grads[1]})
    assert np.allclose(w.data[1], 0.8)


KINDS = (SGD, Adam, AdamW, RMSprop, Lion)
BAD = [
    *(
        (kind, {"lr": value})
        for kind in (SGD, Adam, AdamW, RMSprop, Lion)
        for value in (0, -1, np.nan, np.inf, "1", None)
    ),
    *((kind, {"clip_norm": value}) for kind in KINDS for value in (0, -1.0, np.nan, np.inf, "1")),
    *(
        (kind, {"weight_decay": value})
        for kind in (SGD, Adam, AdamW, RMSprop, Lion)
        for value in (-1e-9, np.nan, np.inf)
    ),
    *((kind, {"momentum": value}) for kind in (SGD, RMSprop) for value in (-0.1, 1.1, 2.0, np.nan, None)),
    *((kind, {"eps": value}) for kind in (Adam, AdamW, RMSprop) for value in (-1e-9, np.nan, np.inf, "1")),
    *(
        (kind, {"betas": value})
        for kind in (Adam, AdamW)
        for value in (0.9, (0.9,), (0.9, 1.0), (-0.1, 0.9), (np.nan, 0.9), (0.9, 0.9, 0.9), "ab", None)
    ),
    *((RMSprop, {"alpha": value}) for value in (-0.1, 1.0, np.nan, "1")),
    (SGD, {"nesterov": True}),
]


@pytest.mark.parametrize(("kind", "arguments"), BAD)
def test_hyperparameters_out_of_range_are_refused(kind, arguments):
    with pytest.raises(error.InvalidValue, match="wanted") as caught:
        kind(**arguments)
    assert caught.value.operation == kind.__name__


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values())
def test_records_are_frozen_values(optimizer):
    with pytest.raises(AttributeError):
        optimizer.lr = 1.0
    assert pickle.loads(pickle.dumps(optimizer)) == optimizer
    assert len({optimizer, pickle.loads(pickle.dumps(optimizer))}) == 1
    assert optimizer.at_rate(0.5).lr == 0.5
    assert type(optimizer.at_rate(0.5)) is type(optimizer)


def test_betas_from_a_file_are_equal_to_those_given_as_a_tuple():
    assert Adam(betas=[0.5, 0.75]) == Adam(betas=(0.5, 0.75))


@pytest.mark.parametrize("value", [True, "x", None, 10**400])
@pytest.mark.parametrize("make", [optim.SGD, optim.Adam, optim.AdamW, optim.RMSprop, optim.Lion])
def test_a_rate_is_a_finite_number_and_no_bool(make, value):
    with pytest.raises(InvalidValue, match="lr="):
        make(lr=value)
