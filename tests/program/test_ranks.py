"""Steps whose gradients are averaged over ranks; each rank prints what it found."""

import numpy as np
import pytest
from support.launch import needs_mpi, ranks

from viva_tensor import autograd, error, nn, optim, program
from viva_tensor.program.gradients import gradients
from viva_tensor.program.lowering import lower
from viva_tensor.program.passes import PASSES


@needs_mpi
@pytest.mark.parametrize("count", [2, 3])
def test_ranks_with_uneven_shares_match_one_rank_with_all_rows(count):
    told = ranks(count, "averaging.uneven_shares")
    for name, (_, _, fingerprint) in told[0]["found"].items():
        for one in told:
            loss, weights, own = one["found"][name]
            # float32 sums in another order
            assert loss < 1e-5, name
            assert weights < 1e-4, name
            assert own == fingerprint, name


@needs_mpi
def test_whole_epochs_with_shares_of_any_size_and_the_same_bits_again():
    told = ranks(3, "averaging.whole_epochs")
    assert told[0]["steps"] == 1 + 3 * 4  # the longest share makes four steps of an epoch
    assert [one | {"rank": 0} for one in told] == [told[0]] * 3
    assert ranks(3, "averaging.whole_epochs") == told


@needs_mpi
def test_shared_rows_make_the_batches_of_one_rank():
    told = ranks(3, "averaging.shared_rows")
    for one in told:
        alone, together = one["losses"]
        assert together == pytest.approx(alone, rel=1e-5)  # float32 sums in another order
        assert together == told[0]["losses"][1]
        assert one["far"] < 1e-4
        assert one["steps"] == 3 * 6
        assert one["found"][0].startswith("RankError run: rng is {'bit_generator': 'PCG64'")
        assert "on rank 0 and" in one["found"][1]
        assert one["found"][1].startswith("RankError run: the rows is ")
        assert one["found"][2].startswith("RankError run: the rows is ")
        assert one["found"][3].startswith("RankError run: the digest of input 1 is ")


@needs_mpi
def test_one_rank_makes_the_step_it_makes_without_a_communicator():
    told = ranks(1, "averaging.alone")
    assert told == [{"rank": 0, "same": True, "kind": "Step"}]


@needs_mpi
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_the_rate_is_that_of_rank_0_and_numbers_beyond_the_dtype_stop_nobody(dtype):
    told = ranks(3, "averaging.rate_of_rank_0", dtype)
    for one in told:
        assert one["same"]
        assert one["bits"] == told[0]["bits"]
        assert one["loss"] == "inf"


@needs_mpi
@pytest.mark.parametrize("options", [(), ("overlap", "shard_state")], ids=" ".join)
def test_one_rank_that_asks_gets_times_and_no_bit_changes(options):
    told = ranks(2, "averaging.times", *options)
    for one in told:
        assert one["none"] == [0, 0, 0, 0]
        assert one["times"]["steps"] == 5  # the first of six tells the other rank
        assert one["after"] == 1  # the last that was asked for, before none of them asks
        assert one["same"]
    waits, works = ([one["times"][part] for one in told] for part in ("wait", "compute"))
    assert waits[0] > 5 * 0.04  # for the other rank's sleep
    assert works[1] > 5 * 0.05
    assert all(one["times"]["reduce"] > 0 for one in told)


@pytest.mark.parametrize("option", ["overlap", "shard_state"])
def test_options_of_ranks_without_ranks_are_refused(option):
    x, tape = autograd.new_constant(autograd.new_tape(), np.ones((6, 4), "f4"))
    layer, tape = nn.linear(tape, 4, 1, rng=np.random.default_rng(0))
    output, tape = nn.linear_forward(tape, layer, x)
    loss, tape = autograd.mean(tape, output)
    with pytest.raises(error.InvalidValue, match=rf"{option}=True.*give comm=MPI.COMM_WORLD"):
        program.compile_step(tape, loss=loss, params=layer, inputs=(x,), optimizer=optim.SGD(), **{option: True})


def test_gradients_become_arrays_of_the_caller():
    rng = np.random.default_rng(0)
    x, tape = autograd.new_constant(autograd.new_tape(), np.ones((6, 4), "f4"))
    layers, tape = nn.mlp(tape, (4, 5, 2), rng=rng)
    output, tape = nn.mlp_forward(tape, layers, x)
    unused, tape = autograd.new_variable(tape, np.ones(3, "f4"))
    loss, tape = nn.mse_loss(tape, output, output)
    params = [layers[0].w, layers[0].b, layers[1].w, unused]
    nodes = tape.nodes()
    instructions, output, _ = lower(nodes, (loss,), (x,), ((6, 4),), params, optim.SGD(clip_norm=1.0), weight=6.0)
    for improve in PASSES[:3]:
        instructions = improve(instructions, output)
    made = gradients(instructions, len(params), np.dtype("f4"))
    assert not {one.kind for one in made} & {"update", "clip", "squared_norm"}
    written = [symbol for one in made for symbol in one.results.values() if symbol.buffer.kind == "parameter"]
    assert sorted(symbol.buffer.index for symbol in written) == [4, 5, 6, 7]
    assert {symbol.buffer.index: symbol.size for symbol in written} == {4: 20, 5: 5, 6: 10, 7: 3}
    assert sum(one.label == "scale" for one in made) >= 1  # of the parameter that nothing depends on
