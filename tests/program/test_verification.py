"""The verifier finds what breaks a program: a pass that moves an update, a layout that does not fit, memory shared."""

import dataclasses

import numpy as np
import pytest
from support import steps, verification
from support.tapes import recorded

from viva_tensor import autograd, nn, optim, program
from viva_tensor.program import layouts, observation, passes, planning


def pinned_bias(rng):
    """A linear layer with one bias that is not trained: the trained part of the sum is not its beginning."""
    shapes = (8, 3), (4, 3), (3,)
    fixed, x, w, trained, tape = recorded(np.zeros(1), *map(rng.standard_normal, shapes), constants=2)
    b, tape = autograd.concatenate(tape, (fixed, trained))
    y, tape = nn.linear_forward(tape, nn.Linear(w, b), x)
    square, tape = autograd.mul(tape, y, y)
    loss, tape = autograd.mean(tape, square)
    return tape, loss, [trained, w], x


def turned_product(rng):
    """relu of the transpose of a square product."""
    x, weights, w, tape = recorded(*map(rng.standard_normal, ((4, 3), (4, 4), (3, 4))), constants=2)
    y, tape = autograd.matmul(tape, x, w)
    transposed, tape = autograd.transpose(tape, y)
    bent, tape = nn.relu(tape, transposed)
    weighted, tape = autograd.mul(tape, bent, weights)
    loss, tape = autograd.mean(tape, weighted)
    return tape, loss, [w], x


def corrected_weights(rng):
    """Trained corrections of weights that stay, in a layer: a parameter in panels if it is read as one alone."""
    arrays = map(rng.standard_normal, ((20, 30), (40, 30), (40, 30)))
    x, fixed, trained, b, tape = recorded(*arrays, np.zeros(40), constants=2)
    w, tape = autograd.add(tape, trained, fixed)
    y, tape = nn.linear_forward(tape, nn.Linear(w, b), x)
    bent, tape = nn.relu(tape, y)
    loss, tape = autograd.mean(tape, bent)
    return tape, loss, [trained, b], x


def network(rng):
    x, _, layers, loss, tape = steps.network((30, 40, 20, 3), 20, "float64")
    return tape, loss, layers, x


def compiled(recording, optimizer=None):
    tape, loss, params, x = recording
    optimizer = optimizer or optim.SGD(lr=0.1)
    return program.compile_step(tape, loss=loss, params=params, inputs=(x,), optimizer=optimizer)


@pytest.mark.parametrize("record", [pinned_bias, turned_product, corrected_weights, network])
@pytest.mark.parametrize("optimizer", [optim.SGD(lr=0.1), optim.Adam(clip_norm=0.1)], ids=str)
def test_programs_that_once_were_wrong_have_the_values_of_the_tape(record, optimizer, rng):
    tape, loss, params, x = recording = record(rng)
    step = compiled(recording, optimizer)
    (wanted, _), _ = optim.update(
        autograd.new_tape(), optimizer, optim.init(optimizer, params), params, autograd.backward(tape, loss)
    )
    assert step(x.data) == loss.data
    for found, want in zip(optim.leaves(step.params(autograd.new_tape()).value), optim.leaves(wanted), strict=True):
        assert np.array_equal(found.data, want.data)


@pytest.mark.parametrize(
    ("record", "change"),
    [(pinned_bias, "update_in_sum changes parameter 0"), (turned_product, "relu_in_product changes the output")],
)
def test_a_pass_that_does_not_look_where_elements_lie_is_found(record, change, rng, monkeypatch):
    monkeypatch.setattr(passes, "_same_elements", lambda made, *others: True)
    with pytest.raises(RuntimeError, match=change):
        compiled(record(rng))


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, -1e9, 1e300])
def test_recorded_numbers_that_are_none_or_large_neither_alarm_nor_hide_anything(value, rng):
    x, w = rng.standard_normal((2, 6, 6))
    x, mask, w, tape = recorded(x, np.triu(np.full((6, 6), value), 1), w, constants=2)
    h, tape = autograd.matmul(tape, x, w)
    masked, tape = autograd.add(tape, h, mask)
    shares, tape = nn.softmax(tape, masked)
    loss, tape = autograd.mean(tape, shares)

    def losing(instructions, output):
        """Without the sum with the mask."""
        lost = next(one for one in instructions if one.label == "add")

        def instead(symbol):
            made = symbol.buffer is lost.results["out"].buffer
            return dataclasses.replace(symbol, buffer=lost.operands["a"].buffer) if made else symbol

        return [
            dataclasses.replace(one, operands={name: instead(symbol) for name, symbol in one.operands.items()})
            for one in instructions
            if one is not lost
        ]

    source = compiled((tape, loss, [w], x))._source
    with pytest.raises(RuntimeError, match="losing changes"):
        source.instructions((x.data.shape,), (losing,))


@pytest.mark.parametrize("layers", [2, 14])
def test_a_pass_that_loses_a_bias_is_found_in_networks_of_any_depth(layers, rng):
    widths = (64,) * layers + (3,)
    held, tape = nn.mlp(autograd.new_tape(), widths, rng=rng, dtype="float64")
    x, tape = autograd.new_constant(tape, rng.standard_normal((20, 64)))
    y, tape = nn.mlp_forward(tape, held, x)
    labels, tape = autograd.new_constant(tape, rng.integers(0, 3, 20).astype(float))
    loss, tape = nn.cross_entropy(tape, y, labels)

    def losing(instructions, output):
        last = [one for one in instructions if "bias" in one.operands][-1]
        operands = {name: symbol for name, symbol in last.operands.items() if name != "bias"}
        without = dataclasses.replace(last, operands=operands, fused=())
        return [without if one is last else one for one in instructions]

    source = compiled((tape, loss, held, x))._source
    with pytest.raises(RuntimeError, match="losing changes"):
        source.instructions((x.data.shape,), (losing,))


def test_dropouts_whose_seeds_are_swapped_are_found(rng):
    x, w, tape = recorded(*rng.standard_normal((2, 20, 8)), constants=1)
    h, tape = autograd.mul(tape, x, w)
    for _ in range(6):
        h, tape = nn.dropout(tape, h, 0.1, rng=rng)
    loss, tape = autograd.mean(tape, h)

    def swapping(instructions, output):
        first, *_, last = [one for one in instructions if one.kind == "dropout"][:6]
        changed = dataclasses.replace(first, seed=last.seed)
        return [changed if one is first else one for one in instructions]

    step = program.compile_step(tape, loss=loss, params=[w], inputs=(x,), optimizer=optim.SGD(lr=0.1), rng=rng)
    with pytest.raises(RuntimeError, match="swapping changes"):
        step._source.instructions((x.data.shape,), (swapping,))


@pytest.mark.parametrize("lost", ["update", "matmul", "sum"])
def test_a_pass_that_loses_an_instruction_is_found(lost, rng, monkeypatch):
    def losing(instructions, output):
        last = next(one for one in reversed(instructions) if one.kind == lost)
        return [one for one in instructions if one is not last]

    *_, x = recording = network(rng)
    source = compiled(recording)._source
    with pytest.raises(RuntimeError, match=r"losing changes (parameter|the output)"):
        source.instructions((x.data.shape,), (losing,))


def test_a_layout_that_its_kernel_does_not_read_is_found(rng, monkeypatch):
    fits = layouts._chosen

    def careless(instructions, dtype, kinds):
        found = fits(instructions, dtype, kinds)
        if "parameter" in kinds:
            w = next(one.operands["w"] for one in instructions if "w" in one.operands and one.kind == "matmul")
            found[w.buffer] = layouts._panels(w.shape, dtype, transposed=False)
        return found

    monkeypatch.setattr(layouts, "_chosen", careless)
    with pytest.raises(RuntimeError, match="which do not lie as its kernel reads them"):
        compiled(corrected_weights(rng))


def test_memory_that_is_shared_too_early_is_found(rng, monkeypatch):
    laid_out = planning.laid_out

    def at_one_offset(*arguments, **named):
        found = laid_out(*arguments, **named)
        found.offsets = dict.fromkeys(found.offsets, 0)
        return found

    monkeypatch.setattr(planning, "laid_out", at_one_offset)
    with pytest.raises(RuntimeError, match="the plan changes"):
        compiled(network(rng))


def test_what_nothing_has_written_is_found(rng):
    *_, x = recording = network(rng)
    instructions, output = compiled(recording)._source.instructions((x.data.shape,), ())
    with pytest.raises(RuntimeError, match="reads what nothing has written"):
        verification.Verifier(instructions[1:], output, np.dtype("f8"))


def test_without_it_nothing_is_carried_out(rng, monkeypatch):
    monkeypatch.setattr(observation, "observe", observation.Observer)
    monkeypatch.setattr(verification._Memory, "carry_out", lambda *_: pytest.fail("carried out"))
    compiled(network(rng))
