import math
import pickle
from itertools import pairwise

import numpy as np
import pytest

from viva_tensor import error
from viva_tensor.optim import schedules


@pytest.mark.parametrize("step", [1, 2, 4, 5, 8, 9, 40, np.int64(40)])
def test_each_schedule_follows_its_formula(step):
    assert schedules.constant(0.3)(step) == 0.3
    assert schedules.step_decay(0.8, every=4, factor=0.5)(step) == 0.8 * 0.5 ** ((int(step) - 1) // 4)
    way = min((step - 1) / 20, 1)
    wanted = 0.02 + (0.1 - 0.02) * (1 + math.cos(math.pi * way)) / 2
    assert schedules.cosine(0.1, steps=20, final=0.02)(step) == pytest.approx(wanted, rel=1e-12)
    rising = schedules.warm_up(schedules.step_decay(0.8, every=4, factor=0.5), steps=8)
    assert rising(step) == schedules.step_decay(0.8, every=4, factor=0.5)(step) * min(1, step / 8)


def test_a_cosine_falls_from_its_rate_and_stays_above_zero_to_its_last_step():
    rate = schedules.cosine(0.1, steps=7)
    rates = [rate(step) for step in range(1, 9)]
    assert rates[0] == 0.1
    assert all(before > after for before, after in pairwise(rates))
    assert rates[-2] > 0
    assert rates[-1] == 0


def test_a_warm_up_of_all_rates_is_that_of_the_learning_rate():
    rising = schedules.warm_up(lambda step: schedules.Rates(0.4, weight_decay=0.1, dropout_factor=0.5), steps=4)
    assert rising(1) == schedules.Rates(0.1, weight_decay=0.1, dropout_factor=0.5)
    assert rising(4) == rising(9) == schedules.Rates(0.4, weight_decay=0.1, dropout_factor=0.5)


def test_a_warm_up_of_what_is_no_rate_is_refused():
    with pytest.raises(error.InvalidValue, match="warm_up: the rate of the schedule='fast', wanted a number"):
        schedules.warm_up(lambda step: "fast", 10)(1)


@pytest.mark.parametrize(("steps", "rise"), [(12, 0.3), (10, 0.5), (100, 0.1), (30, 0.9)])
def test_one_cycle_is_that_of_pytorch(steps, rise):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    stepper = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    theirs = torch.optim.lr_scheduler.OneCycleLR(stepper, 0.1, total_steps=steps, pct_start=rise)
    rate = schedules.one_cycle(0.1, steps, rise)
    for step in range(1, steps + 1):
        assert rate(step) == pytest.approx(stepper.param_groups[0]["lr"], rel=1e-9, abs=1e-12)
        stepper.step()
        if step < steps:
            theirs.step()
    assert rate(steps + 5) == rate(steps) == 0.1 * 4e-6
    assert schedules.one_cycle(0.1, steps, rise=0.0)(1) == 0.1


def test_pytorch_has_the_same_rates():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    stepper = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    pairs = [
        (schedules.step_decay(0.1, 3, 0.5), torch.optim.lr_scheduler.StepLR(stepper, 3, 0.5)),
        (schedules.cosine(0.1, 12, 0.01), torch.optim.lr_scheduler.CosineAnnealingLR(stepper, 12, 0.01)),
    ]
    for ours, theirs in pairs:
        stepper.param_groups[0]["lr"] = 0.1
        for step in range(1, 13):
            assert ours(step) == pytest.approx(stepper.param_groups[0]["lr"], rel=1e-9)
            stepper.step()
            theirs.step()


@pytest.mark.parametrize(
    "make",
    [
        *(lambda lr=lr: schedules.constant(lr) for lr in (0, -1.0, math.nan, math.inf, "1", None)),
        *(lambda lr=lr: schedules.step_decay(lr, 1, 0.5) for lr in (0, math.nan)),
        *(lambda every=every: schedules.step_decay(0.1, every, 0.5) for every in (0, -1, 1.5, None)),
        *(lambda factor=factor: schedules.step_decay(0.1, 1, factor) for factor in (0, -1, 1.1, math.nan, "1")),
        *(lambda lr=lr: schedules.cosine(lr, 10) for lr in (0, math.inf)),
        *(lambda steps=steps: schedules.cosine(0.1, steps) for steps in (0, 2.5, math.inf)),
        *(lambda final=final: schedules.cosine(0.1, 10, final) for final in (-0.1, 0.2, math.nan)),
        *(lambda lr=lr: schedules.one_cycle(lr, 10) for lr in (0, math.nan)),
        *(lambda rise=rise: schedules.one_cycle(0.1, 10, rise) for rise in (-0.1, 1.0, math.nan)),
        *(lambda factor=factor: schedules.one_cycle(0.1, 10, 0.3, factor) for factor in (0, 1.1)),
        *(lambda steps=steps: schedules.warm_up(schedules.constant(1), steps) for steps in (0, 0.5)),
        lambda: schedules.warm_up(0.1, 10),
    ],
)
def test_bad_numbers_are_refused(make):
    with pytest.raises(error.InvalidValue, match="wanted"):
        make()


@pytest.mark.parametrize(
    "schedule",
    [
        schedules.constant(0.1),
        schedules.step_decay(0.1, 2, 0.5),
        schedules.cosine(0.1, 10),
        schedules.warm_up(schedules.constant(0.1), 5),
    ],
)
def test_steps_count_from_one_and_schedules_can_be_pickled(schedule):
    for step in (0, -1, 1.5, None):
        with pytest.raises(error.InvalidValue, match=f"step={step}"):
            schedule(step)
    assert pickle.loads(pickle.dumps(schedule))(3) == schedule(3)
