"""Rates that change from step to step: learning rate, weight decay and dropout, with the bits of the tape."""

import copy
import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest
from support import steps
from support.steps import copied, same
from support.training import in_threads

from viva_tensor import autograd, error, kernels, nn, optim, program
from viva_tensor.program import scheduled

OPTIMIZERS = {
    "SGD": optim.SGD(lr=0.1, momentum=0.9, weight_decay=0.3),
    "AdamW": optim.AdamW(lr=0.01, weight_decay=0.3),
    "Lion": optim.Lion(lr=0.01),
}
DROPOUT = 0.4


def rates(number):
    return optim.Rates(0.02 / number, weight_decay=0.4 / number, dropout_factor=1 - number / 8)


def record(tape, layers, X, Y, rng, rate):
    x, tape = autograd.new_constant(tape, X)
    y, tape = autograd.new_constant(tape, Y)
    out, tape = nn.mlp_forward(tape, layers, x, dropout_rate=rate, rng=rng)
    loss, tape = nn.mse_loss(tape, out, y)
    return (x, y), loss, tape


def compiled(optimizer):
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((40, 12)).astype("f4"), rng.standard_normal((40, 2)).astype("f4")
    layers, tape = nn.mlp(autograd.new_tape(), (12, 30, 2), rng=rng)
    inputs, loss, tape = record(tape, layers, X, Y, np.random.default_rng(1), DROPOUT)
    again = np.random.default_rng(5)
    step = program.compile_step(tape, loss=loss, params=layers, inputs=inputs, optimizer=optimizer, rng=again)
    return X, Y, layers, step


def plain(**options):
    """Return 80 equal batches of 8 rows, and the step of a small network with momentum."""
    X, Y, _, step = steps.compiled(optim.SGD(lr=0.1, momentum=0.5), (5, 16, 2), 8, **options)
    return np.tile(X, (80, 1)), np.tile(Y, (80, 1)), step


def eager(optimizer, layers, X, Y, each):
    layers, tape = copied(layers)
    state, rng, losses = optim.init(optimizer, layers), np.random.default_rng(5), []
    for own in each:
        _, loss, tape = record(tape, layers, X, Y, rng, DROPOUT * own.dropout_factor)
        losses.append(float(loss.data))
        now = replace(optimizer, lr=own.lr, weight_decay=own.weight_decay)
        grads = autograd.backward(tape, loss)
        (layers, state), tape = optim.update(autograd.new_tape(), now, state, layers, grads)
    return losses, layers


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_a_schedule_of_all_rates_has_the_bits_of_a_loop_on_the_tape(optimizer, threads):
    with kernels.num_threads(threads):
        X, Y, layers, step = compiled(optimizer)
        found = step.run(X, Y, batch_size=40, epochs=6, shuffle=False, schedule=rates)
    losses, trained = eager(optimizer, layers, X, Y, map(rates, range(1, 7)))
    assert found == losses
    assert same(step.params(autograd.new_tape()).value, trained)


def test_after_a_schedule_the_rates_are_those_set_before():
    X, Y, layers, step = compiled(OPTIMIZERS["AdamW"])
    assert step.rates == optim.Rates(0.01, weight_decay=0.3)
    step.rates = own = optim.Rates(0.5, weight_decay=0.0, dropout_factor=0.5)
    assert step.lr == 0.5
    step.run(X, Y, batch_size=40, shuffle=False, schedule=rates)
    step.run(X, Y, batch_size=40, shuffle=False, schedule=lambda number: 0.25)  # the learning rate alone
    twin = copy.deepcopy(step)
    assert twin.rates == step.rates == own
    losses, trained = eager(OPTIMIZERS["AdamW"], layers, X, Y, [rates(1), replace(own, lr=0.25), own])
    assert [step(X, Y), twin(X, Y)] == [losses[2]] * 2
    assert same(step.params(autograd.new_tape()).value, trained)


@pytest.mark.parametrize("wrong", [{"lr": 0.0}, {"weight_decay": -1.0}, {"dropout_factor": 1.5}, {"lr": "0.1"}])
def test_rates_out_of_range_are_refused(wrong):
    with pytest.raises(error.InvalidValue, match=next(iter(wrong))):
        optim.Rates(**({"lr": 0.1} | wrong))


@pytest.mark.parametrize("threads", [1, 2])
def test_a_schedule_is_asked_once_for_each_step_also_where_it_is_asked_ahead(threads):
    asked = []
    X, Y, step = plain()
    settings = {"batch_size": 8, "epochs": 3, "shuffle": False}
    with kernels.num_threads(threads):
        step.run(X, Y, **settings, schedule=lambda number: asked.append(number) or 0.1 / number)
    assert asked == [*range(1, 3 * len(X) // 8 + 1)]
    assert len(X) // 8 > scheduled.STEPS_AHEAD
    *_, twin = plain()
    for number in asked:
        twin.lr = 0.1 / number
        twin(X[:8], Y[:8])
    assert same(step.params(autograd.new_tape()).value, twin.params(autograd.new_tape()).value)


def test_rates_that_are_asked_ahead_change_from_step_to_step():
    """Without dropout, whose steps are made one by one."""

    def changing(number):
        return optim.Rates(0.1 / number, weight_decay=0.5 / number)

    X, Y, step = plain()
    *_, twin = plain()
    step.run(X, Y, batch_size=8, shuffle=False, schedule=changing)
    for number in range(1, len(X) // 8 + 1):
        twin.rates = changing(number)
        twin(X[:8], Y[:8])
    assert same(step.params(autograd.new_tape()).value, twin.params(autograd.new_tape()).value)


def test_few_rates_are_asked_ahead_for_long_steps_and_no_more_than_are_wanted():
    asked = []
    ahead = scheduled.Scheduled(lambda number: asked.append(number) or 0.5, optim.SGD(), optim.Rates(0.1, 0.0))
    assert len(ahead.of(1, 64, scheduled.FLOPS_AHEAD // 3)) == 3
    assert len(ahead.of(4, 64, 10 * scheduled.FLOPS_AHEAD)) == 1
    assert len(ahead.of(5, 9, 1)) == 9
    assert asked == [*range(1, 14)]
    assert len(ahead.of(6, 2, 1)) == 2  # a step that was restored to an earlier state has fewer left
    assert asked[-1] == 13


def test_a_schedule_may_read_the_step_and_even_make_steps_of_it():
    X, Y, step = plain()
    made = []

    def stepping(number):
        made.append(step(X[:8], Y[:8]))
        return 0.1 * step.rates.lr

    step.run(X, Y, batch_size=8, shuffle=False, schedule=stepping)
    assert len(made) == len(X) // 8
    assert step.steps == 2 * len(made)


def test_what_a_failed_schedule_held_is_freed_with_its_error():
    X, Y, step = plain()
    gc.collect()
    gc.disable()
    try:
        held = np.ones(3)
        gone = weakref.ref(held)

        def failing(number, held=held):
            return held[number]

        del held
        with pytest.raises(IndexError):
            step.run(X, Y, batch_size=8, shuffle=False, schedule=failing)
        del failing
        assert gone() is None
    finally:
        gc.enable()


def test_a_profile_in_another_thread_undoes_no_steps():
    X, Y, step = plain()
    in_threads(2, lambda i: step.profile(X[:8], Y[:8]) if i else [step(X[:8], Y[:8]) for _ in range(200)])
    assert step.steps == 200


def test_an_error_of_a_schedule_comes_after_the_steps_before_it():
    X, Y, step = plain()
    *_, twin = plain()

    def failing(number):
        return 0.1 / (5 - number)

    with pytest.raises(ZeroDivisionError):
        step.run(X, Y, batch_size=8, shuffle=False, schedule=failing)
    twin.run(X[:32], Y[:32], batch_size=8, shuffle=False, schedule=failing)
    assert step.steps == twin.steps == 4
    assert same(step.params(autograd.new_tape()).value, twin.params(autograd.new_tape()).value)


@pytest.mark.parametrize("options", [{}, {"micro_batch": 3}])
def test_two_threads_that_run_a_step_give_each_of_its_steps_its_own_rate(options):
    X, Y, step = plain(**options)
    *_, twin = plain(**options)
    settings = {"batch_size": 8, "shuffle": False, "schedule": lambda number: 0.1 / number}
    in_threads(2, lambda _: step.run(X, Y, epochs=20, **settings))
    twin.run(X, Y, epochs=40, **settings)
    assert same(step.params(autograd.new_tape()).value, twin.params(autograd.new_tape()).value)


@pytest.mark.parametrize("options", [{}, {"micro_batch": 4}], ids=["whole", "in parts"])
def test_a_schedule_that_ends_before_the_run_is_named_with_the_step(options):
    X, Y, step = plain(**options)
    ending = optim.schedules.cosine(0.1, steps=4)
    with pytest.raises(error.InvalidValue, match=r"the schedule gave 0\.0 for step 5 \(SGD: lr=0\.0, .*cosine\("):
        step.run(X, Y, batch_size=8, shuffle=False, schedule=ending)
    assert step.steps == 4


def test_a_schedule_of_no_rate_changes_nothing():
    X, Y, _, step = compiled(OPTIMIZERS["Lion"])
    before, drawn = step.state(), copy.deepcopy(step)
    for given in (None, "fast", 0.0):
        with pytest.raises(error.InvalidValue, match="lr="):
            step.run(X, Y, batch_size=40, shuffle=False, schedule=lambda number, given=given: given)
    assert step.state().steps == before.steps == 0
    assert step(X, Y) == drawn(X, Y)
