"""Ranks whose sums overlap with the backward pass, and ranks that shard the optimiser's state: the same bits."""

import pytest
from support.launch import needs_mpi, ranks


@needs_mpi
def test_two_ranks_have_the_same_bits_whether_sums_overlap_or_not():
    told = ranks(2, "sharing.overlapping_sums")
    for one in told:
        for name, (losses, states, cut) in one["found"].items():
            assert losses, name
            assert states, name
            assert cut, name


@needs_mpi
def test_three_ranks_with_buckets_have_the_same_bits_again():
    told = ranks(3, "sharing.three_ranks")
    assert [one | {"rank": 0} for one in told] == [told[0]] * 3
    assert ranks(3, "sharing.three_ranks") == told


@needs_mpi
@pytest.mark.parametrize("count", [2, 3])
def test_a_sharded_state_takes_its_share_of_memory_and_changes_no_bit(count):
    told = ranks(count, "sharing.sharded_state")
    for name in told[0]["found"]:
        whole, shares = 0, 0
        for one in told:
            equal, (full, local), views, going, refused, alone = one["found"][name]
            assert equal, name
            assert views, name
            assert going, name
            assert refused == "InvalidValue restore: the state is that of another program; compile the same step", name
            assert alone, name
            # 1/N of up to two slots and the average, where up to 2 · 128 bytes follow each of 6 arrays, in whole 128s
            assert local <= (full + 3 * 6 * 256) / count + 3 * 128, name
            whole, shares = full, shares + local
        assert shares >= whole, name
        assert (whole == 0) == (name == "SGD False"), name


@needs_mpi
def test_a_sharded_state_goes_on_with_another_number_of_ranks(tmp_path):
    told = ranks(3, "sharing.kept", tmp_path / "state")
    assert [one["steps"] for one in told] == [4] * 3
    told = ranks(2, "sharing.taken_up", tmp_path / "state")
    assert [one["steps"] for one in told] == [7] * 2
    assert all(one["close"] for one in told)  # float32 sums in another order
    assert told[0]["different"] == told[1]["different"]
    assert "restore: the state's SHA-256 is " in told[0]["different"]
