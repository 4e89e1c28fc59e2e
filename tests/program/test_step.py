import signal

import numpy as np
import pytest
from support.steps import compiled, eager, network, same, same_state
from support.tapes import recorded
from support.training import in_threads

from viva_tensor import autograd, error, kernels, nn, optim, program
from viva_tensor.autograd import operations
from viva_tensor.program import layouts
from viva_tensor.program.planning import MOST_PLANS

WORKLOADS = {
    "seed-demo": ((1, 4, 1), 5, 100),
    "tabular": ((8, 64, 64, 1), 64, 100),
    "mnist-mlp": ((784, 256, 128, 10), 128, 20),
    "beyond a chunk": ((300, 200, 700, 3), 300, 10),
    "odd": ((3, 37, 1, 129, 2), 1, 50),
    "deep": ((96,) * 9, 520, 10),
}


@pytest.mark.parametrize("workload", WORKLOADS)
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_the_same_bits_as_on_the_tape_at_every_thread_count(workload, momentum, dtype):
    sizes, batch, steps = WORKLOADS[workload]
    sgd = optim.SGD(lr=0.01, momentum=momentum)
    X, Y, layers, _ = compiled(sgd, sizes, batch, dtype)
    losses, trained = eager(layers, [(X, Y)] * steps, sgd)
    for threads in (1, 2, 3, 7):
        with kernels.num_threads(threads):
            *_, step = compiled(sgd, sizes, batch, dtype)
            assert [step(X, Y) for _ in range(steps)] == losses
        after, _ = step.params(autograd.new_tape())
        assert same(after, trained)


def test_a_batch_of_another_size_and_layout():
    sgd = optim.SGD(lr=0.05)
    *_, layers, step = compiled(sgd, (6, 20, 2), 32)
    rng = np.random.default_rng(1)
    batches = []
    for rows in (32, 7, 1, 50, 7):
        X, Y = (rng.standard_normal((rows, size)).astype("f4") for size in (6, 2))
        batches.append((np.asfortranarray(X), Y[::-1]))
    losses, trained = eager(layers, [(np.ascontiguousarray(X), np.ascontiguousarray(Y)) for X, Y in batches], sgd)
    assert [step(X, Y) for X, Y in batches] == losses
    assert same(step.params(autograd.new_tape()).value, trained)
    assert step(batches[0][0].tolist(), batches[0][1].tolist()) > 0


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_run_makes_the_steps_of_the_loop(shuffle, momentum):
    *_, step = compiled(optim.SGD(lr=0.05, momentum=momentum), (5, 16, 1), 8)
    *_, twin = compiled(optim.SGD(lr=0.05, momentum=momentum), (5, 16, 1), 8)
    rng = np.random.default_rng(2)
    X, Y = rng.standard_normal((45, 5)).astype("f4"), rng.standard_normal((45, 1)).astype("f4")
    seen = []
    kept = {"batch_size": 8, "epochs": 3, "shuffle": shuffle, "callback": lambda *at: seen.append(at)}
    losses = step.run(X, Y, rng=np.random.default_rng(3), **kept)
    order = np.random.default_rng(3)
    expected = []
    for _ in range(3):
        rows = order.permutation(45) if shuffle else np.arange(45)
        total = sum(twin(X[rows[i : i + 8]], Y[rows[i : i + 8]]) * len(rows[i : i + 8]) for i in range(0, 45, 8))
        expected.append(total / 45)
    assert losses == pytest.approx(expected, rel=1e-12)
    assert seen == list(zip((1, 2, 3), losses, strict=True))
    assert same(step.params(autograd.new_tape()).value, twin.params(autograd.new_tape()).value)


@pytest.mark.parametrize("shuffle", [True, False])
def test_run_takes_the_chosen_rows_alone(shuffle):
    *_, step = compiled(optim.SGD(lr=0.05), (5, 16, 1), 8)
    *_, twin = compiled(optim.SGD(lr=0.05), (5, 16, 1), 8)
    rng = np.random.default_rng(2)
    X, Y = rng.standard_normal((45, 5)).astype("f4"), rng.standard_normal((45, 1)).astype("f4")
    rows = rng.permutation(45)[:21]
    kept = {"batch_size": 8, "epochs": 2, "shuffle": shuffle}
    losses = step.run(X, Y, rows=list(rows), rng=np.random.default_rng(3), **kept)
    assert losses == twin.run(X[rows], Y[rows], rng=np.random.default_rng(3), **kept)
    assert same(step.params(autograd.new_tape()).value, twin.params(autograd.new_tape()).value)


@pytest.mark.parametrize("shuffle", [True, False])
def test_rows_that_a_callback_changes_are_those_of_the_call(shuffle):
    *_, step = compiled(optim.SGD(lr=0.05), (5, 16, 1), 8)
    *_, twin = compiled(optim.SGD(lr=0.05), (5, 16, 1), 8)
    rng = np.random.default_rng(2)
    X, Y = rng.standard_normal((45, 5)).astype("f4"), rng.standard_normal((45, 1)).astype("f4")
    rows = np.arange(20)
    kept = {"batch_size": 8, "epochs": 3, "shuffle": shuffle}
    losses = step.run(
        X, Y, rows=rows, rng=np.random.default_rng(3), callback=lambda *_: np.copyto(rows, 10**12), **kept
    )
    assert losses == twin.run(X, Y, rows=np.arange(20), rng=np.random.default_rng(3), **kept)


def test_a_schedule_sets_the_rate_of_each_step():
    X, Y, _, step = compiled(optim.SGD(lr=0.5), (5, 16, 1), 8)
    *_, twin = compiled(optim.SGD(lr=0.5), (5, 16, 1), 8)
    asked = []
    rows = np.tile(X, (3, 1)), np.tile(Y, (3, 1))
    step.run(*rows, batch_size=8, epochs=2, shuffle=False, schedule=lambda n: asked.append(n) or 0.1 / n)
    assert asked == [1, 2, 3, 4, 5, 6]
    assert step.lr == 0.5
    for n in asked:
        twin.lr = 0.1 / n
        twin(X, Y)
    twin.lr = 0.5
    assert step(X, Y) == twin(X, Y)
    assert same(step.params(autograd.new_tape()).value, twin.params(autograd.new_tape()).value)


def test_plans_for_many_batch_sizes_do_not_pile_up():
    X, Y, _, step = compiled(optim.SGD(lr=0.01), (5, 16, 1), 60)
    for rows in range(1, 51):
        step(X[:rows], Y[:rows])
        step(X[:1], Y[:1])
    assert step.steps == 100
    planned = {shapes[0][0] for shapes, _ in step._plans._made}
    assert planned == {1, *range(52 - MOST_PLANS, 51)}  # those that were used last


def test_a_restore_that_runs_out_of_memory_changes_nothing(monkeypatch):
    X, Y, _, step = compiled(optim.Adam(), (64, 96, 64), 64)
    state = step.state()
    step(X, Y)
    before = step.state()
    stored, calls = layouts.Panels.store, []

    def store(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise MemoryError
        stored(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(layouts.Panels, "store", store)
        with pytest.raises(MemoryError):
            step.restore(state)
    assert len(calls) == 3
    assert same_state(step.state(), before)


def test_a_restored_state_goes_on_bit_for_bit():
    X, Y, _, step = compiled(optim.SGD(lr=0.05, momentum=0.9), (5, 16, 1), 8)
    for _ in range(3):
        step(X, Y)
    state = step.state()
    ahead = [step(X, Y) for _ in range(4)]
    *_, other = compiled(optim.SGD(lr=0.05, momentum=0.9), (5, 16, 1), 8)
    other.restore(state)
    assert other.state().steps == 3
    assert [other(X, Y) for _ in range(4)] == ahead
    *_, plain = compiled(optim.SGD(lr=0.05), (5, 16, 1), 8)
    with pytest.raises(error.InvalidValue, match="another program"):
        plain.restore(state)


def test_profile_and_printing_change_nothing():
    X, Y, _, step = compiled(optim.SGD(lr=0.05), (5, 16, 1), 8)
    before = step.state()
    table = step.profile(X, Y, times=2)
    header, *rows, _ = table.splitlines()
    assert header.split() == ["µs", "GFLOPS", "GB/s", "of", "roof", "roof", "threads", "instruction"]
    assert all(row.split()[4] in ("arithmetic", "memory") for row in rows)
    assert len(rows) == len(step.planned)
    assert "matmul + bias + relu" in table
    text = str(step)
    assert all(part in text for part in ("matmul + bias + relu", "matmul + mask", "threads: 1; ", "0 barriers"))
    assert same_state(step.state(), before)


def test_nothing_that_does_not_fit_changes_anything():
    X, Y, _, step = compiled(optim.SGD(lr=0.05), (5, 16, 1), 8)
    before = step.state()
    with pytest.raises(error.ShapeMismatch, match=r"\(8, 5\), got \(8, 4\)"):
        step(X[:, :4], Y)
    with pytest.raises(error.ShapeMismatch, match="as many rows"):
        step(X[:4], Y)
    with pytest.raises(error.DtypeError, match="float64"):
        step(X.astype("f8"), Y)
    with pytest.raises(error.DtypeError, match=r"dtype int64 of shape \(8, 5\), wanted float32; .*astype\(np.float32"):
        step(X.astype(int), Y)
    with pytest.raises(error.DimensionError, match="got 1 inputs"):
        step(X)
    with pytest.raises(error.InvalidValue, match="batch_size=0"):
        step.run(X, Y, batch_size=0, shuffle=False)
    with pytest.raises(error.InvalidValue, match="generator"):
        step.run(X, Y, batch_size=2)
    with pytest.raises(error.InvalidValue, match="as many rows"):
        step.run(X, Y[:3], batch_size=2, shuffle=False)
    with pytest.raises(error.InvalidValue, match="and some"):
        step.run(X[:0], Y[:0], batch_size=2, shuffle=False)
    for rows, message in (
        ([], "rows of dtype"),
        ([[0]], r"shape \(1, 1\)"),
        ([0.5], "float64"),
        ([0, 8], "row 8 of 8"),
        ([3, -1], "row -1"),
    ):
        with pytest.raises(error.InvalidValue, match=message):
            step.run(X, Y, batch_size=2, shuffle=False, rows=rows)
    with pytest.raises(error.DtypeError, match="masked"):
        step(np.ma.masked_less(X, 0), Y)
    with pytest.raises(error.InvalidValue, match="lr=-1"):
        step.run(X, Y, batch_size=8, shuffle=False, schedule=lambda n: -1.0)
    assert before.steps == 0
    assert same_state(step.state(), before)


def test_what_cannot_be_compiled_is_refused():
    x, y, layers, loss, tape = network((5, 16, 1), 8)
    sgd = optim.SGD(lr=0.05)
    _, _, others, _, _ = network((5, 16, 1), 8)
    with pytest.raises(error.ForeignVariable):
        program.compile_step(tape, loss=loss, params=others, inputs=(x, y), optimizer=sgd)
    hidden, wider = nn.linear_forward(tape, layers[0], x)
    with pytest.raises(error.DimensionError, match="scalar"):
        program.compile_step(wider, loss=hidden, params=layers, inputs=(x, y), optimizer=sgd)
    with pytest.raises(error.InvalidValue, match="not a leaf"):
        program.compile_step(wider, loss=loss, params=layers, inputs=(x, hidden), optimizer=sgd)
    with pytest.raises(error.InvalidValue, match="give a tuple of variables"):
        program.compile_step(tape, loss=loss, params=layers, inputs=x, optimizer=sgd)
    with pytest.raises(error.InvalidValue, match="no parameters"):
        program.compile_step(tape, loss=loss, params=(), inputs=(x, y), optimizer=sgd)
    cube = operations.Operation("cube", lambda x: x, lambda x: x * x * x)
    odd, wider = autograd.record(tape, cube, x)
    with pytest.raises(error.TensorError, match="'cube' has no compiled form"):
        program.compile_forward(wider, output=odd, inputs=(x,))


def test_ctrl_c_takes_effect_between_steps():
    X, Y, _, step = compiled(optim.SGD(lr=1e-3), (5, 64, 1), 64)
    rows = np.tile(X, (100, 1)), np.tile(Y, (100, 1))
    handler = signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        with pytest.raises(KeyboardInterrupt):
            step.run(*rows, batch_size=64, epochs=10**6, shuffle=False)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
    assert np.isfinite(step(X, Y))


def test_two_programs_in_two_python_threads():
    sgd = optim.SGD(lr=0.01)

    def train(_):
        X, Y, _, step = compiled(sgd, (20, 64, 3), 128)
        return [step(X, Y) for _ in range(30)]

    x, y, layers, _, _ = network((20, 64, 3), 128)
    losses, _ = eager(layers, [(x.data, y.data)] * 30, sgd)
    assert in_threads(2, train) == [losses, losses]


def test_a_forward_pass_in_many_threads_and_sizes():
    x, _, layers, _, tape = network((20, 64, 3), 128)
    hidden, tape = nn.linear_forward(tape, layers[0], x)
    hidden, tape = nn.relu(tape, hidden)
    output, tape = nn.linear_forward(tape, layers[1], hidden)
    predict = program.compile_forward(tape, output=output, inputs=(x,))
    assert "matmul + bias + relu" in str(predict)

    def right(index):
        rows = (128, 1, 77, 128)[index]
        return all(np.array_equal(predict(x.data[:rows]), output.data[:rows]) for _ in range(20))

    assert in_threads(4, right) == [True] * 4
    with pytest.raises(error.ShapeMismatch):
        predict(x.data[:, :3])


def test_tied_and_unused_parameters_and_constants_that_stay():
    rng = np.random.default_rng(0)
    arrays = (rng.standard_normal(shape).astype("f4") for shape in ((6, 4), (4,), (4, 4), (3,)))
    x, offset, w, unused, tape = recorded(*arrays, constants=2)
    h, tape = autograd.matmul(tape, x, w)
    h, tape = autograd.add(tape, h, offset)
    h, tape = autograd.matmul(tape, h, w)
    loss, tape = autograd.mean(tape, h)
    grads = autograd.backward(tape, loss)
    sgd = optim.SGD(lr=0.1)
    (after, _), _ = optim.update(autograd.new_tape(), sgd, optim.init(sgd, [w, unused]), [w, unused], grads)
    step = program.compile_step(tape, loss=loss, params=[w, unused], inputs=(x,), optimizer=sgd)
    assert step(x.data) == float(loss.data)
    for variable, expected in zip(step.params(autograd.new_tape()).value, after, strict=True):
        assert np.array_equal(variable.data, expected.data)


def test_a_forward_pass_is_whole_when_another_thread_changes_the_number_of_threads_meanwhile(monkeypatch):
    x, _, _, loss, tape = network((6, 20, 2), 32)
    predict = program.compile_forward(tape, output=loss, inputs=(x,))
    wanted = predict(x.data)
    predict(x.data * 2)
    asked = iter([5, 6])
    monkeypatch.setattr("viva_tensor.program.forward.get_num_threads", lambda: next(asked, kernels.get_num_threads()))
    assert predict(x.data) == wanted


def test_an_empty_batch_that_lies_across_its_alignment():
    x, y, layers, loss, tape = network((4, 3), 8)
    raw = bytearray(64)
    X, Y = (np.ndarray((0, size), "f4", raw, offset=1) for size in (4, 3))
    step = program.compile_step(tape, loss=loss, params=layers, inputs=(x, y), optimizer=optim.SGD(lr=0.1))
    assert np.isnan(step(X, Y))
    assert np.isnan(program.compile_forward(tape, output=loss, inputs=(x, y))(X, Y))


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch_size": 2.0},
        {"batch_size": True},
        {"epochs": 1.5},
        {"epochs": True},
        {"rng": 0},
        {"callback": 3},
        {"schedule": 0.1},
        {"shared": "no"},
    ],
)
def test_a_run_refuses_what_does_not_fit_before_its_first_step(wrong):
    X, Y, _, step = compiled(optim.SGD(lr=0.1), (2, 1), 2)
    with pytest.raises(error.InvalidValue, match=next(iter(wrong))):
        step.run(X, Y, **{"batch_size": 1, "rng": np.random.default_rng(0)} | wrong)
    assert step.steps == 0


def test_several_losses_are_summed_and_each_is_told():
    x, y, layers, loss, tape = network((5, 16, 1), 8)
    square, tape = autograd.mul(tape, layers[0].w, layers[0].w)
    penalty, tape = autograd.mean(tape, square)
    total, tape = autograd.add(tape, loss, penalty)
    given = {"params": layers, "inputs": (x, y), "optimizer": optim.SGD(lr=0.05)}
    step = program.compile_step(tape, loss=(loss, penalty), **given)
    twin = program.compile_step(tape, loss=total, **given)
    assert np.isnan(step.losses).tolist() == [True, True]
    assert step(x.data, y.data) == float(total.data) == twin(x.data, y.data)
    assert step.losses == (float(loss.data), float(penalty.data))
    assert twin.losses == (float(total.data),)
    losses = [one.run(x.data, y.data, batch_size=8, epochs=3, shuffle=False) for one in (step, twin)]
    assert losses[0] == losses[1]
    assert same_state(step.state(), twin.state())
    assert sum(step.losses) == pytest.approx(losses[0][-1], rel=1e-6)
    for wrong in ((), (loss, square), 3, (loss, 3)):
        with pytest.raises(error.TensorError, match="compile_step"):
            program.compile_step(tape, loss=wrong, **given)
