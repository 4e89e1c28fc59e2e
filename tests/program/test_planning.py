"""Order, memory and barriers."""

import numpy as np
import pytest
from support.steps import compiled

from viva_tensor import kernels, optim
from viva_tensor.program import thresholds
from viva_tensor.program._calls import Address, InputOffset
from viva_tensor.program._executor import Executor


def step(sizes, batch, threads):
    with kernels.num_threads(threads):
        return compiled(optim.SGD(lr=0.1), sizes, batch)[-1]


def test_small_programs_stay_on_one_thread():
    assert all(one.threads == 1 for one in step((8, 16, 16, 1), 64, 8).planned)
    assert "0 barriers" in str(step((8, 16, 16, 1), 64, 8))


@pytest.mark.parametrize("threads", [2, 3])
def test_memory_that_two_temporaries_share_passes_to_another_thread_after_a_barrier(threads):
    made = step((512,) * 6, 600, threads)._plans.current
    assert made.arena.nbytes > thresholds.current().unshared

    def spans(symbols):
        return [(made.offsets[one.buffer], one.buffer) for one in symbols if one.buffer in made.offsets]

    since = []
    shared = 0
    for one in made.planned:
        since = [] if one.barrier else since
        read, written = spans(one.instruction.operands.values()), spans(one.instruction.results.values())
        for before in since:
            old_read, old = spans(before.instruction.operands.values()), spans(before.instruction.results.values())
            pairs = [*((a, b) for a in old for b in read + written), *((a, b) for a in old_read for b in written)]
            for (start, buffer), (other_start, other) in pairs:
                at_once = start < other_start + 4 * other.size and other_start < start + 4 * buffer.size
                if at_once and buffer is not other:
                    assert before.threads == one.threads == 1
                    assert before.first == one.first
        shared += sum(written[0][0] == offset for offset in made.offsets.values()) > 1 if written else 0
        since.append(one)
    assert shared


@pytest.mark.parametrize("threads", [2, 3, 64])
def test_what_another_thread_wrote_is_read_only_after_a_barrier(threads):
    with thresholds.changed(**thresholds.EVERYWHERE):
        planned = step((40, 300, 70, 9), 128, threads).planned
    assert max(one.threads for one in planned) == threads
    since = []
    for one in planned:
        since = [] if one.barrier else since
        for before in since:
            written = {symbol.buffer for symbol in before.instruction.results.values()}
            for name, symbol in one.instruction.operands.items():
                if symbol.buffer in written and not before.threads == one.threads == 1:
                    assert before.by_rows
                    assert one.by_rows
                    assert name in ("a", "mask", "pred", "x")
                    assert before.threads == one.threads
                assert before.first == one.first or symbol.buffer not in written
            assert not written & {symbol.buffer for symbol in one.instruction.results.values()}
        since.append(one)


def test_temporaries_that_are_needed_at_once_lie_apart():
    made = step((512,) * 5, 300, 1)._plans.current
    alive = {}
    for i, one in enumerate(made.planned):
        for symbol in one.instruction.symbols:
            if symbol.buffer in made.offsets:
                first, _ = alive.get(symbol.buffer, (i, i))
                alive[symbol.buffer] = first, i
    spans = [(*when, made.offsets[buffer], made.offsets[buffer] + 4 * buffer.size) for buffer, when in alive.items()]
    for i, (first, last, begin, end) in enumerate(spans):
        for other_first, other_last, other_begin, other_end in spans[:i]:
            at_once = first <= other_last and other_first <= last
            assert not (at_once and begin < other_end and other_begin < end)
    assert made.arena.nbytes < sum(4 * buffer.size for buffer in alive)


def test_no_instruction_writes_into_an_input_and_no_output_lies_in_one():
    executor = Executor("f", 1, 1, ((2, 2),), None, None)
    within, square, team = InputOffset(0, 4), (InputOffset(0, 4), 2, 1, 0, 0), (0, 1, False)
    address = Address(np.zeros(4, "f4").ctypes.data)
    for call in (
        lambda: executor.finish(within),
        lambda: executor.sum((1, 2, 2), within, within, 1.0, None, team),
        lambda: executor.pairs("scale", (2, 2), square, square, square, 1.0, False, team),
        lambda: executor.update(within, (None, None, within, 4, 0, 0, (1.0, 1.0)), team),
        lambda: executor.squared_norm(4, within, within, team),
        lambda: executor.sum((1, 2, 2), (-1, 4), address, 1.0, None, team),
    ):
        with pytest.raises(TypeError, match=r"Address|InputOffset"):
            call()
    executor = Executor("f", 1, 1, ((4,), (2,)), None, None, 1)  # of which the second array is returned
    executor.sum((1, 2, 2), InputOffset(0, 0), InputOffset(1, 0), 1.0, None, team)
    with pytest.raises(TypeError, match="an input, wanted an Address or the InputOffset of a returned array"):
        executor.sum((1, 2, 2), InputOffset(0, 0), InputOffset(0, 0), 1.0, None, team)
    executor.finish(None)
    x, out = np.arange(4, dtype="f4"), np.zeros(2, "f4")
    with kernels.num_threads(1):
        assert executor.run((x, out)) == 0.0
    assert out.tolist() == [2.0, 4.0]
