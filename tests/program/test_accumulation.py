"""Batches that are computed in parts: the bits of a loop on the tape, and the step of the whole batch."""

import copy
import pickle

import numpy as np
import pytest
from support.steps import copied, same, same_state

from viva_tensor import autograd, error, kernels, nn, optim, program
from viva_tensor.autograd.tape import new_leaves

OPTIMIZERS = {
    "SGD": optim.SGD(lr=0.1, momentum=0.9, weight_decay=0.3),
    "AdamW": optim.AdamW(lr=0.01, weight_decay=0.3),
    "clipped": optim.AdamW(lr=0.01, clip_norm=0.05),
}


def record(tape, layers, X, Y, rng=None, rate=0.0):
    x, tape = autograd.new_constant(tape, X)
    y, tape = autograd.new_constant(tape, Y)
    out, tape = nn.mlp_forward(tape, layers, x, dropout_rate=rate, rng=rng)
    loss, tape = nn.mse_loss(tape, out, y)
    return (x, y), loss, tape


def compiled(optimizer, rate=0.0, dtype="float32", rows=50, **options):
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((50, 12)).astype(dtype), rng.standard_normal((50, 2)).astype(dtype)
    layers, tape = nn.mlp(autograd.new_tape(), (12, 30, 2), rng=rng, dtype=dtype)
    inputs, loss, tape = record(tape, layers, X[:rows], Y[:rows], np.random.default_rng(1), rate)
    again = np.random.default_rng(5)
    step = program.compile_step(
        tape, loss=loss, params=layers, inputs=inputs, optimizer=optimizer, rng=again, **options
    )
    return X, Y, layers, step


def eager(optimizer, layers, batches, rows, rate):
    """Losses, and layers after a step on each batch, whose gradients are added up over parts of so many rows."""
    layers, tape = copied(layers)
    state, rng, losses = optim.init(optimizer, layers), np.random.default_rng(5), []
    for X, Y in batches:
        total, sums = 0.0, {}
        for begin in range(0, len(X), rows):
            part = X[begin : begin + rows], Y[begin : begin + rows]
            _, loss, longer = record(tape, layers, *part, rng, rate)
            total += len(part[0]) * float(loss.data)
            grads = autograd.backward(longer, loss, seed=np.float32(len(part[0])))
            sums = {key: kernels.add(sums[key], one) if key in sums else one for key, one in dict(grads).items()}
        mean = {key: kernels.scale(one, float(np.float32(1 / len(X)))) for key, one in sums.items()}
        losses.append(total / len(X))
        (layers, state), tape = optim.update(autograd.new_tape(), optimizer, state, layers, mean)
    return losses, layers


@pytest.mark.parametrize("rate", [0.0, 0.4])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_parts_have_the_bits_of_a_loop_on_the_tape(optimizer, threads, rate):
    with kernels.num_threads(threads):
        X, Y, layers, step = compiled(optimizer, rate, micro_batch=16)
        batches = [(X, Y), (X[:32], Y[:32]), (X[:5], Y[:5])]  # with a smaller last part, without, in one part
        losses = [step(*batch) for batch in batches]
    wanted, trained = eager(optimizer, layers, batches, 16, rate)
    assert losses == wanted
    assert same(step.params(autograd.new_tape()).value, trained)


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_parts_make_the_step_of_the_whole_batch(optimizer):
    X, Y, _, parts = compiled(optimizer, dtype="float64", micro_batch=7)
    *_, whole = compiled(optimizer, dtype="float64")
    settings = {"batch_size": 30, "epochs": 3, "schedule": lambda number: 0.01 / number}
    found, wanted = (step.run(X, Y, rng=np.random.default_rng(2), **settings) for step in (parts, whole))
    np.testing.assert_allclose(found, wanted, rtol=1e-12)  # rounding of float64 in some twenty sums
    for layer, other in zip(*(step.params(autograd.new_tape()).value for step in (parts, whole)), strict=True):
        np.testing.assert_allclose(layer.w.data, other.w.data, rtol=1e-9)
    assert parts.steps == whole.steps == 6


def test_the_memory_is_that_of_one_part():
    *_, parts = compiled(OPTIMIZERS["SGD"], micro_batch=5)
    small = compiled(OPTIMIZERS["SGD"], rows=5, micro_batch=5)[-1]
    whole = compiled(OPTIMIZERS["SGD"], micro_batch=50)[-1]
    assert parts._plans.current.arena.size == small._plans.current.arena.size < whole._plans.current.arena.size


def test_each_of_several_losses_is_the_mean_over_all_rows_and_inputs_without_rows_stay_whole():
    X, factors = np.arange(10, dtype="f4")[:, None], np.array([[2.0], [3.0], [5.0]], "f4")
    x, tape = autograd.new_constant(autograd.new_tape(), X)
    scale, tape = autograd.new_constant(tape, factors)
    w, tape = autograd.new_variable(tape, np.ones((1, 1), "f4"))
    product, tape = autograd.mul(tape, x, w)
    first, tape = autograd.mean(tape, product)
    second, tape = autograd.sum(tape, scale)
    second, tape = autograd.mul(tape, second, first)
    step = program.compile_step(
        tape, loss=(first, second), params=w, inputs=(x, scale), optimizer=optim.SGD(lr=0.5), micro_batch=4
    )
    assert all(np.isnan(step.losses))
    assert step(X, factors) == 11 * 4.5
    assert step.losses == (4.5, 45.0)
    assert step.params(autograd.new_tape()).value.data == 1 - 0.5 * 11 * 4.5


def one_layer(loss):
    """Return the options of ``compile_step`` for a loss of predictions, targets, weights of rows and the layer."""
    rows = np.ones((6, 3), "f4"), np.zeros((6, 1), "f4"), np.ones(6, "f4")
    inputs, tape = new_leaves(autograd.new_tape(), rows, autograd.new_constant)
    layer, tape = nn.linear(tape, 3, 1, rng=np.random.default_rng(0))
    pred, tape = nn.linear_forward(tape, layer, inputs[0])
    loss, tape = loss(tape, pred, *inputs[1:], layer)
    return {"tape": tape, "loss": loss, "params": layer, "inputs": inputs, "optimizer": optim.SGD(lr=0.1)}


def chain(*functions):
    return lambda tape, *given: autograd.sequence(functions[0](tape, *given), *functions[1:])


def summed(tape, pred, target, weights, layer):
    return nn.mse_loss(tape, pred, target, reduction="sum")


def mean(tape, pred, target, weights, layer):
    return nn.mse_loss(tape, pred, target)


SUMS = {
    "sum": summed,
    "weighted sum": lambda tape, pred, target, weights, layer: nn.huber_loss(tape, pred, target, 1.0, "sum", weights),
    "sum of rows by mean of columns": lambda tape, pred, *_: autograd.sequence(
        autograd.sum(tape, pred, axis=0), autograd.mean
    ),
    "scaled": chain(summed, lambda tape, loss: autograd.mul(tape, loss, 1 / 6)),
    "sum of squares": lambda tape, pred, target, *_: autograd.sequence(
        autograd.sub(tape, pred, target), autograd.sum_of_squares
    ),
    "product along the rows": lambda tape, pred, *_: autograd.sequence(
        autograd.transpose(tape, pred), lambda tape, turned: autograd.matmul(tape, turned, pred), autograd.mean
    ),
    "transposed": lambda tape, pred, *_: autograd.sequence(
        autograd.sum(tape, pred, axis=0, keepdims=True), autograd.transpose, autograd.mean
    ),
    "divided": chain(summed, lambda tape, loss: autograd.div(tape, loss, 6.0)),
    "clipped": chain(summed, lambda tape, loss: autograd.clip(tape, loss, 0.0, 1e9)),
    "chosen": chain(summed, lambda tape, loss: autograd.where(tape, True, loss, 0.0)),
    "logarithm": chain(lambda tape, pred, *_: autograd.exp(tape, pred), autograd.sum, autograd.log),
    "logsumexp": lambda tape, pred, *_: autograd.logsumexp(tape, pred),
}
MEANS = {
    "mean": mean,
    "weighted mean": lambda tape, pred, target, weights, layer: nn.huber_loss(tape, pred, target, 1.0, "mean", weights),
    "mean of sums of columns": lambda tape, pred, *_: autograd.sequence(
        autograd.sum(tape, pred, axis=1), autograd.mean
    ),
    "sum of means of rows": lambda tape, pred, *_: autograd.sequence(autograd.mean(tape, pred, axis=0), autograd.sum),
}


def beside_a_norm_without_gradient(tape, pred, *_):
    mean, tape = autograd.mean(tape, pred)
    norm, tape = autograd.sequence(autograd.norm(tape, pred), autograd.stop_gradient)
    return autograd.add(tape, mean, norm)


def beside_an_extreme_that_cancels(tape, pred, *_):
    top, tape = autograd.max(tape, pred)
    off, tape = autograd.sequence(autograd.sub(tape, pred, top), autograd.mean)
    return autograd.add(tape, off, top)


def with_slopes(tape, pred, *_):
    """A penalty on the slopes of each row, which a sum over the rows leaves to each."""
    squares, tape = autograd.sequence(autograd.square(tape, pred), autograd.sum)
    slopes, tape = autograd.gradient(tape, squares, pred)
    return autograd.sequence(autograd.square(tape, slopes), autograd.mean)


def slopes_added_up(tape, pred, *_):
    """The sum over rows of each one's share of the gradient of a mean: a mean."""
    return autograd.sequence(slopes_of_mean(tape, pred), autograd.sum)


def slopes_of_mean(tape, pred):
    squares, tape = autograd.sequence(autograd.square(tape, pred), autograd.mean)
    return autograd.gradient(tape, squares, pred)


def with_rows_of_its_own(tape, pred, target, weights, layer):
    both, tape = autograd.concatenate(tape, (pred, target), axis=0)
    return autograd.sequence(autograd.square(tape, both), autograd.mean)


def above_labels(tape, pred, target, *_):
    above, tape = autograd.greater(tape, pred, target)
    return autograd.sequence(autograd.where(tape, above, pred, 0.1), autograd.mean)


def with_penalty(tape, pred, target, weights, layer):
    loss, tape = nn.mse_loss(tape, pred, target)
    squares, tape = autograd.square(tape, layer.w)
    penalty, tape = autograd.sum(tape, squares)
    return autograd.add(tape, loss, penalty)


@pytest.mark.parametrize("name", SUMS)
def test_a_sum_over_rows_is_refused(name):
    recorded = one_layer(SUMS[name])
    with pytest.raises(error.InvalidValue, match=r"compile_step: .*a sum over rows, %\d+ .*; reduce it by mean"):
        program.compile_step(**recorded, micro_batch=4)
    both = recorded | {"loss": (recorded["loss"], recorded["loss"])}
    with pytest.raises(error.InvalidValue, match="a sum over rows"):
        program.compile_step(**both, micro_batch=4)
    assert program.compile_step(**recorded).steps == 0


@pytest.mark.parametrize("extreme", [autograd.max, autograd.min, autograd.norm])
def test_an_extreme_over_rows_is_refused(extreme):
    wanted = rf"contains a {extreme.__name__} over rows, .*; reduce it by mean"
    behind = chain(lambda tape, pred, *_: extreme(tape, pred, axis=0), autograd.stop_gradient)
    shifted = chain(lambda tape, pred, *_: behind(tape, pred), lambda t, top: autograd.sum(t, top))
    for loss in (chain(lambda tape, pred, *_: extreme(tape, pred)), chain(summed_columns, extreme), shifted):
        with pytest.raises(error.InvalidValue, match=wanted):
            program.compile_step(**one_layer(loss), micro_batch=4)


def summed_columns(tape, pred, *_):
    return autograd.sum(tape, pred, axis=1)


@pytest.mark.parametrize(
    "loss", [*MEANS.values(), with_penalty, with_slopes, slopes_added_up, with_rows_of_its_own, above_labels]
)
def test_a_mean_over_rows_is_taken_in_parts(loss):
    recorded = one_layer(loss)
    parts, whole = program.compile_step(**recorded, micro_batch=4), program.compile_step(**recorded)
    rows = [variable.data for variable in recorded["inputs"]]
    for step in (parts, whole):
        step(*rows)
    found, wanted = (step.params(autograd.new_tape()).value.w.data for step in (parts, whole))
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=2e-7)  # roundings of steps of about 1


@pytest.mark.parametrize("loss", [beside_a_norm_without_gradient, beside_an_extreme_that_cancels])
def test_an_extreme_that_only_the_value_or_not_even_it_depends_on_is_refused(loss):
    with pytest.raises(error.InvalidValue, match=r"contains a (norm|max) over rows"):
        program.compile_step(**one_layer(loss), micro_batch=4)


def test_a_tape_for_one_number_of_rows_is_refused():
    first = one_layer(chain(lambda tape, pred, *_: autograd.slice(tape, pred, slice(0, 1)), autograd.mean))
    with pytest.raises(error.InvalidValue, match=r"for batches of 6 rows alone \(slice: .*take all rows with :\)"):
        program.compile_step(**first, micro_batch=6)
    assert program.compile_step(**first).steps == 0


def of_rows(function):
    """A loss whose predictions a function turns, rows among rows, before their squares are averaged."""
    return chain(lambda tape, pred, *_: function(tape, pred), autograd.square, autograd.mean)


def turned(function):
    return lambda tape, pred: autograd.sequence(autograd.transpose(tape, pred), function, autograd.transpose)


def centred(tape, pred):
    middle, tape = autograd.mean(tape, pred, axis=0)
    return autograd.sub(tape, pred, middle)


def normalized(tape, pred):
    deviation, tape = autograd.sequence(autograd.std(tape, pred, axis=0), lambda t, x: autograd.add(t, x, 0.1))
    return autograd.div(tape, pred, deviation)


def paired(tape, pred, function):
    turned, tape = autograd.transpose(tape, pred)
    return function(tape, pred, turned)


def above_the_mean(tape, pred):
    middle, tape = autograd.mean(tape, pred, axis=0)
    above, tape = autograd.greater(tape, pred, middle)
    return autograd.where(tape, above, pred, 0.0)


def quotient_of_quotients(tape, pred, target, *_):
    """The mean of predictions by the share of two others, as no weighted mean has it."""
    first, tape = autograd.mean(tape, pred)
    second, tape = autograd.sequence(autograd.exp(tape, pred), autograd.mean)
    third, tape = autograd.sequence(autograd.exp(tape, target), autograd.mean)
    share, tape = autograd.div(tape, second, third)
    return autograd.div(tape, first, share)


def with_one_row_more(tape, pred):
    one, tape = autograd.new_constant(tape, np.ones((1, pred.shape[1]), pred.dtype))
    return autograd.concatenate(tape, (pred, one), axis=0)


def shifted(tape, pred):
    top, tape = autograd.sequence(autograd.max(tape, pred, axis=0), autograd.stop_gradient)
    off, tape = autograd.sub(tape, pred, top)
    return autograd.exp(tape, off)


def products_of_columns(tape, pred):
    cubes, tape = autograd.reshape(tape, pred, (-1, 1, pred.shape[1]))
    return autograd.einsum(tape, "bij,bik->ijk", cubes, cubes)


NOT_LINEAR = {
    "sqrt of a mean": chain(mean, autograd.sqrt),
    "log of a mean": chain(mean, lambda tape, loss: autograd.mul(tape, loss, 2.0), autograd.log),
    "exp of a mean": chain(lambda tape, pred, *_: autograd.mean(tape, pred, axis=0), autograd.exp, autograd.sum),
    "mul of a mean": chain(lambda tape, pred, *_: autograd.mean(tape, pred), autograd.square),
    "div of a mean": chain(mean, lambda tape, loss: autograd.div(tape, 1.0, loss)),
    "mul of a mean, of variances": lambda tape, pred, *_: autograd.var(tape, pred),
    "a sum over rows, of variances": lambda tape, pred, *_: autograd.var(tape, pred, ddof=1),
    "mul of a mean, of rows": of_rows(centred),
    "a norm over rows, of deviations": of_rows(normalized),
    "softmax along the rows": of_rows(turned(nn.softmax)),
    "cumsum along the rows": of_rows(autograd.cumsum),
    "flip along the rows": lambda tape, pred, *_: autograd.sequence(
        autograd.flip(tape, pred, 0), lambda t, x: autograd.mul(t, x, pred), autograd.mean
    ),
    "take along the rows": of_rows(lambda t, x: autograd.take(t, x, np.array([5, 0, 1]), axis=0)),
    "pad along the rows": of_rows(lambda t, x: autograd.pad(t, x, ((1, 1), (0, 0)))),
    "pairs of rows, in products": of_rows(lambda t, x: paired(t, x, autograd.matmul)),
    "a sum over rows, in products of batches": of_rows(products_of_columns),
    "pairs of rows, in differences": of_rows(lambda t, x: paired(t, x, autograd.sub)),
    "less of a mean": of_rows(above_the_mean),
    "sign of a mean": of_rows(lambda t, x: autograd.sequence(centred(t, x), autograd.sign)),
    "a max over rows, without a gradient": of_rows(shifted),
    "mul of a mean, of a constant one": lambda tape, pred, target, *_: autograd.sequence(
        autograd.mean(tape, target), lambda t, m: autograd.mul(t, m, pred), autograd.mean
    ),
    "concatenate along the rows": of_rows(with_one_row_more),
    "a gradient of a mean": of_rows(slopes_of_mean),
    "div of a mean, of a quotient of means": quotient_of_quotients,
}


@pytest.mark.parametrize("name", NOT_LINEAR)
def test_functions_of_all_rows_that_are_not_linear_are_refused(name):
    with pytest.raises(error.InvalidValue, match=rf"the loss contains {name.partition(',')[0]}.*leave micro_batch out"):
        program.compile_step(**one_layer(NOT_LINEAR[name]), micro_batch=4)


def attention(tape, x):
    queries, tape = autograd.expand_dims(tape, x, 2)
    keys, tape = autograd.expand_dims(tape, x, 1)
    weights, tape = autograd.sequence(autograd.matmul(tape, queries, keys), nn.softmax)
    return autograd.matmul(tape, weights, queries)


def differences(tape, x):
    column, tape = autograd.expand_dims(tape, x, 2)
    row, tape = autograd.expand_dims(tape, x, 1)
    return autograd.sub(tape, column, row)


def normed(tape, x):
    layer, tape = nn.layer_norm(tape, 3)
    return nn.layer_norm_forward(tape, layer, x)


WITHIN_ROWS = {
    "attention": attention,
    "differences": differences,
    "layer norm": normed,
    "product": lambda t, x: autograd.matmul(t, x, np.ones((3, 2), "f4")),
    "flip": lambda t, x: autograd.flip(t, x, 1),
    "take": lambda t, x: autograd.take(t, x, np.array([2, 0]), axis=1),
    "pad": lambda t, x: autograd.pad(t, x, ((0, 0), (1, 1))),
    "cumsum": lambda t, x: autograd.cumsum(t, x, axis=1),
}


@pytest.mark.parametrize("name", WITHIN_ROWS)
def test_what_is_within_each_row_is_taken_in_parts(name):
    rng = np.random.default_rng(3)
    x, tape = autograd.new_constant(autograd.new_tape(), rng.standard_normal((10, 3), np.float32))
    w, tape = autograd.new_variable(tape, np.arange(1.0, 4.0, dtype="f4"))
    loss, tape = autograd.sequence(autograd.mul(tape, x, w), WITHIN_ROWS[name], autograd.square, autograd.mean)
    given = {"tape": tape, "loss": loss, "params": w, "inputs": (x,), "optimizer": optim.SGD(lr=0.1)}
    parts, whole = program.compile_step(**given, micro_batch=4), program.compile_step(**given)
    assert parts(x.data) == pytest.approx(whole(x.data), rel=1e-5)
    found, wanted = (step.params(autograd.new_tape()).value.data for step in (parts, whole))
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def with_its_sum(tape, x):
    total, tape = autograd.sum(tape, x, axis=0)
    return autograd.add(tape, x, total)


OF_ROWS = [
    nn.tanh, nn.softmax, autograd.square, lambda t, x: autograd.mean(t, x, axis=1, keepdims=True), centred, normalized,
    turned(nn.softmax), autograd.cumsum, lambda t, x: autograd.norm(t, x, axis=1, keepdims=True), above_the_mean,
    shifted, slopes_of_mean, autograd.stop_gradient, lambda t, x: autograd.concatenate(t, (x, x), axis=0),
    lambda t, x: autograd.concatenate(t, (x, x), axis=1), autograd.sign, with_its_sum,
]  # fmt: skip
TO_A_LOSS = [
    autograd.mean, autograd.sum, autograd.var, lambda t, x: autograd.mean(t, x, axis=0),
    lambda t, x: autograd.sequence(autograd.sum(t, x, axis=1), autograd.mean),
]  # fmt: skip
OF_LOSSES = [
    autograd.exp, autograd.square, nn.tanh, lambda t, x: autograd.mul(t, x, -2.0), lambda t, x: autograd.add(t, x, 1.0),
    lambda t, x: autograd.div(t, x, 3.0),
]  # fmt: skip


@pytest.mark.parametrize("seed", range(200))
def test_random_losses_are_those_of_the_whole_batch_or_refused(seed):
    rng = np.random.default_rng(seed)
    X, W = rng.standard_normal((10, 4)), rng.standard_normal((4, 3))
    functions = [OF_ROWS[i] for i in rng.integers(len(OF_ROWS), size=rng.integers(3))]
    functions += [TO_A_LOSS[rng.integers(len(TO_A_LOSS))]]
    functions += [OF_LOSSES[i] for i in rng.integers(len(OF_LOSSES), size=rng.integers(3))]
    x, tape = autograd.new_constant(autograd.new_tape(), X)
    w, tape = autograd.new_variable(tape, W)
    loss, tape = autograd.sequence(autograd.matmul(tape, x, w), *functions, autograd.sum)
    given = {"tape": tape, "loss": loss, "params": w, "inputs": (x,), "optimizer": optim.SGD(lr=0.1)}
    whole = program.compile_step(**given)
    try:
        parts = program.compile_step(**given, micro_batch=4)
    except error.InvalidValue:
        return
    assert parts(X) == pytest.approx(whole(X), rel=1e-12)
    found, wanted = (step.params(autograd.new_tape()).value.data for step in (parts, whole))
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda step: pickle.loads(pickle.dumps(step))])
def test_a_copy_goes_on_alike(again):
    X, Y, _, step = compiled(OPTIMIZERS["AdamW"], micro_batch=16, average=optim.Averaging(0.9))
    step(X, Y)
    twin = again(step)
    assert type(twin) is type(step)
    assert step(X, Y) == twin(X, Y)
    assert same_state(step.state(), twin.state())
    assert same(step.average_params(autograd.new_tape()).value, twin.average_params(autograd.new_tape()).value)


@pytest.mark.parametrize("wrong", [0, -1, 1.5, "8", True])
def test_parts_that_are_no_number_of_rows_are_refused(wrong):
    with pytest.raises(error.InvalidValue, match=r"compile_step: micro_batch="):
        compiled(OPTIMIZERS["SGD"], micro_batch=wrong)


def test_a_batch_that_is_refused_changes_nothing():
    X, Y, _, step = compiled(OPTIMIZERS["SGD"], rate=0.4, micro_batch=16)
    *_, twin = compiled(OPTIMIZERS["SGD"], rate=0.4, micro_batch=16)
    for wrong in ((X[:0], Y[:0]), (X, Y[:20]), (X[:, :3], Y), (X.astype("f8"), Y)):
        with pytest.raises(error.TensorError, match=r"step: "):
            step(*wrong)
    assert step(X, Y) == twin(X, Y)
    assert same_state(step.state(), twin.state())


def test_another_thread_may_change_the_number_of_threads_between_plan_and_step(monkeypatch):
    X, Y, _, step = compiled(OPTIMIZERS["SGD"], micro_batch=16)
    *_, twin = compiled(OPTIMIZERS["SGD"], micro_batch=16)
    plan, changes = step._plans.at, [1, 2, 1]

    def interfered(shapes):
        planned = plan(shapes)
        if changes:
            kernels.set_num_threads(changes.pop())
        return planned

    before = kernels.get_num_threads()
    monkeypatch.setattr(step._plans, "at", interfered)
    try:
        assert step(X, Y) == twin(X, Y)
    finally:
        kernels.set_num_threads(before)
    assert not changes
