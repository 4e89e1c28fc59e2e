"""Every optimiser in a program: the bits of the tape, clipped and not, at every thread count and instruction set."""

from dataclasses import replace

import numpy as np
import pytest
from support import steps
from support.instruction_sets import FUSED, on_isa
from support.steps import NETWORKS, eager, in_pytorch, network, same, same_state

from viva_tensor import autograd, error, kernels, optim, program
from viva_tensor.optim import SGD, Adam, AdamW, Lion, RMSprop

OPTIMIZERS = {
    "sgd": SGD(lr=0.05),
    "sgd, decay": SGD(lr=0.05, weight_decay=0.01),
    "momentum": SGD(lr=0.05, momentum=0.9),
    "nesterov, decay": SGD(lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01),
    "adam": Adam(lr=0.01),
    "adam, decay": Adam(lr=0.01, betas=(0.8, 0.9), eps=1e-6, weight_decay=0.1),
    "adamw": AdamW(lr=0.01, weight_decay=0.1),
    "lion, decay": Lion(lr=0.001, weight_decay=0.1),
    "rmsprop": RMSprop(lr=0.001),
    "rmsprop, momentum, decay": RMSprop(lr=0.001, momentum=0.9, weight_decay=0.1),
}


def compiled(name, optimizer, dtype="float32"):
    return steps.compiled(optimizer, *NETWORKS[name], dtype)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("clip_norm", [None, 0.5])
def test_the_same_bits_as_on_the_tape(name, optimizer, clip_norm, dtype):
    chosen = replace(OPTIMIZERS[optimizer], clip_norm=clip_norm)
    X, Y, layers, _ = compiled(name, chosen, dtype)
    losses, trained = eager(layers, [(X, Y)] * 6, chosen)
    for threads in (1, 2, 5):
        with kernels.num_threads(threads):
            _, _, _, step = compiled(name, chosen, dtype)
            assert [step(X, Y) for _ in range(6)] == losses
        assert same(step.params(autograd.new_tape()).value, trained)


def digest():
    """What steps of every optimiser on every network come to."""
    return steps.digest(
        compiled(name, replace(optimizer, clip_norm=clip_norm))
        for name in NETWORKS
        for optimizer in OPTIMIZERS.values()
        for clip_norm in (None, 0.5)
    )


def test_the_same_bits_on_every_instruction_set_with_fused_multiply_add():
    if len(FUSED) < 2:
        pytest.skip("the processor has only one instruction set with fused multiply-add")
    assert len({on_isa(isa, __file__, "digest()") for isa in FUSED}) == 1


@pytest.mark.parametrize("optimizer", [name for name in OPTIMIZERS if "lion" not in name])  # which it lacks
@pytest.mark.parametrize("clip_norm", [None, 0.1])
def test_ten_steps_of_a_network_are_those_of_pytorch(optimizer, clip_norm, dtype):
    """To rounding: losses within that of a sum of 200 terms, weights within 50 of the number 1.

    A gradient near 0 loses most digits, and Adam and RMSprop make it as long as any other; lr multiplies that.
    """
    torch = pytest.importorskip("torch", reason="torch is not installed")
    chosen = OPTIMIZERS[optimizer]
    X, Y, layers, step = compiled("in panels", replace(chosen, clip_norm=clip_norm), dtype)
    model = in_pytorch(layers, torch.nn.ReLU())
    options = {name: getattr(chosen, name) for name in chosen.__dataclass_fields__ if name != "clip_norm"}
    stepper = getattr(torch.optim, type(chosen).__name__)(model.parameters(), **options)
    x, y = torch.tensor(X), torch.tensor(Y)
    eps = float(np.finfo(dtype).eps)
    for _ in range(10):
        stepper.zero_grad()
        loss = torch.nn.functional.mse_loss(model(x), y)
        loss.backward()
        if clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
        stepper.step()
        assert step(X, Y) == pytest.approx(loss.item(), rel=200 * eps)
    for layer, module in zip(step.params(autograd.new_tape()).value, model[::2], strict=True):
        assert np.abs(layer.w.data - module.weight.detach().numpy()).max() < 50 * eps
        assert np.abs(layer.b.data - module.bias.detach().numpy()).max() < 50 * eps


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_updates_join_the_products_and_sums_unless_they_wait_for_a_norm(optimizer):
    chosen = OPTIMIZERS[optimizer]
    kinds = [one.instruction.kind for one in compiled("in panels", chosen)[3].planned]
    assert "update" not in kinds
    clipped = compiled("in panels", replace(chosen, clip_norm=1.0))[3]
    kinds = [one.instruction.kind for one in clipped.planned]
    assert kinds.count("update") == kinds.count("squared_norm") == 6
    assert kinds.count("clip") == 1
    assert kinds.index("clip") > max(i for i, kind in enumerate(kinds) if kind == "squared_norm")
    assert kinds.index("clip") < kinds.index("update")
    assert "clip(" in str(clipped)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("clip_norm", [None, 0.5])
def test_a_restored_state_goes_on_bit_for_bit_from_a_file(optimizer, clip_norm, tmp_path):
    chosen = replace(OPTIMIZERS[optimizer], clip_norm=clip_norm)
    X, Y, _, step = compiled("in panels", chosen)
    for _ in range(3):
        step(X, Y)
    state = step.state()
    ahead = [step(X, Y) for _ in range(4)]
    arrays = {f"p{i}": array for i, array in enumerate(state.params)}
    arrays |= {f"m{k}.{i}": array for k, kind in enumerate(state.moments) for i, array in enumerate(kind)}
    np.savez(tmp_path / "state.npz", steps=state.steps, **arrays)
    with np.load(tmp_path / "state.npz") as file:
        count = range(len(state.params))
        read = program.State(
            [file[f"p{i}"] for i in count],
            [[file[f"m{k}.{i}"] for i in count] for k in range(len(state.moments))],
            int(file["steps"]),
        )
    _, _, _, other = compiled("in panels", chosen)
    other.restore(read)
    assert other.steps == 3
    assert [other(X, Y) for _ in range(4)] == ahead
    step.restore(read)
    assert [step(X, Y) for _ in range(4)] == ahead


@pytest.mark.parametrize(
    ("own", "other"),
    [(RMSprop(), SGD(momentum=0.9)), (RMSprop(momentum=0.9), Adam()), (AdamW(), Adam()), (Adam(), AdamW())],
    ids=str,
)
def test_the_state_of_another_optimiser_with_as_many_moments_is_refused(own, other):
    X, Y, _, step = compiled("thin", own)
    step(X, Y)
    before = step.state()
    foreign = compiled("thin", other)[3].state()
    assert len(foreign.moments) == len(before.moments)
    names = f"of {type(other).__name__}, wanted {type(own).__name__}"
    with pytest.raises(error.InvalidValue, match=names):
        step.restore(foreign)
    assert step.state().steps == 1
    assert same(step.state().params, before.params)
    step.restore(foreign._replace(optimizer=None))
    assert step.state().optimizer == type(own).__name__


def test_states_that_do_not_fit_are_refused_and_change_nothing():
    X, Y, _, step = compiled("thin", Adam())
    step(X, Y)
    before = step.state()
    bad = [
        before._replace(moments=before.moments[:1]),
        before._replace(moments=()),
        before._replace(params=before.params[:-1]),
        before._replace(params=(before.params[0].T.copy(), *before.params[1:])),
        before._replace(params=tuple(array.astype("f8") for array in before.params)),
        before._replace(moments=(before.moments[0], before.moments[1][:-1])),
        compiled("thin", SGD())[3].state(),
    ]
    for state in bad:
        with pytest.raises(error.InvalidValue, match="another program"):
            step.restore(state)
    for state in (optim.init(Adam(), step.params(autograd.new_tape()).value), tuple(before), None):
        with pytest.raises(error.InvalidValue, match=r"wanted program\.State"):
            step.restore(state)
    for state in (
        before._replace(params=None),
        before._replace(params=3),
        before._replace(moments=(None, None)),
        before._replace(params=[[[1.0], [1.0, 2.0]]]),
    ):
        with pytest.raises(error.InvalidValue, match="another program"):
            step.restore(state)
    for count in (-1, 1.5, None, "3", True):
        with pytest.raises(error.InvalidValue, match="steps="):
            step.restore(before._replace(steps=count))
    assert before.steps == 1
    assert same_state(step.state(), before)


@pytest.mark.parametrize("optimizer", ["momentum", "adam", "adamw", "rmsprop"])
def test_run_counts_the_steps_that_corrections_and_schedules_depend_on(optimizer):
    """Batches of two sizes have a plan each, which share the count."""
    rate = optim.schedules.warm_up(optim.schedules.cosine(0.05, 12), 3)
    X, Y, _, step = compiled("in panels", OPTIMIZERS[optimizer])
    _, _, _, twin = compiled("in panels", OPTIMIZERS[optimizer])
    _, _, _, at_once = compiled("in panels", OPTIMIZERS[optimizer])
    batches = [slice(0, 30), slice(30, 60), slice(60, 90), slice(90, 100)]
    step.run(X, Y, batch_size=30, epochs=3, shuffle=False, schedule=rate)
    for number in range(1, 13):
        twin.lr = rate(number)
        rows = batches[(number - 1) % 4]
        twin(X[rows], Y[rows])
    assert step.steps == twin.steps == 12
    assert same(step.params(autograd.new_tape()).value, twin.params(autograd.new_tape()).value)
    assert step.lr == OPTIMIZERS[optimizer].lr
    at_once.restore(twin.state())
    twin.lr = step.lr
    at_once.run(X, Y, batch_size=30, shuffle=False)
    for rows in batches:
        twin(X[rows], Y[rows])
    assert same(at_once.params(autograd.new_tape()).value, twin.params(autograd.new_tape()).value)


def test_a_schedule_that_ends_at_nothing_stops_before_the_step_in_vain():
    X, Y, _, step = compiled("thin", Adam())
    with pytest.raises(error.InvalidValue, match=r"lr=0\.0"):
        step.run(X, Y, batch_size=1, epochs=2, shuffle=False, schedule=optim.schedules.cosine(0.01, 5))
    assert step.steps == 5
    assert step.lr == 0.001


def test_profile_changes_neither_moments_nor_the_count():
    X, Y, _, step = compiled("in panels", Adam(clip_norm=1.0))
    step(X, Y)
    before = step.state()
    assert "clip" in step.profile(X, Y, times=2)
    assert same_state(step.state(), before)


@pytest.mark.parametrize("thing", [None, "adam", Adam, object()])
def test_what_is_no_optimiser_is_refused(thing):
    x, y, layers, loss, tape = network((3, 2), 4)
    with pytest.raises(error.InvalidValue, match="no optimiser"):
        program.compile_step(tape, loss=loss, params=layers, inputs=(x, y), optimizer=thing)
