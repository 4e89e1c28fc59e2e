"""Calls in which the n-th allocation fails, and perhaps some after it, for each n in turn.

Each is a MemoryError that leaves everything as usable as before.

As `python -m support.allocations CASE:EVERY:FIRST ...`, with the library of allocation_shim.py in LD_PRELOAD and with
PYTHONMALLOC=malloc, so that each object of Python is an allocation too. It prints each n before it is tried, so that a
driver knows where the process ended if it did.
"""

import ctypes
import itertools
import sys
import tempfile
import traceback
from pathlib import Path


def kernel_calls():
    """{name: call} of kernels, each of which gives an array or a tuple of arrays."""
    import numpy as np

    from viva_tensor import kernels as k

    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 300, 300)).astype("f4")
    small, cube = a[:5, :7].copy(), rng.standard_normal((6, 5, 40)).astype("f4")
    classes = np.arange(300, dtype="f4") % 300
    swapped = small.astype(">f4")
    return {
        "matmul": lambda: k.matmul(a, b),
        "small matmul": lambda: k.matmul(small, small.T),
        "matmul of what is converted": lambda: k.matmul(swapped, swapped.T),
        "linear": lambda: k.linear(a, b, b[0]),
        "linear_backward": lambda: k.linear_backward(a, a, b),
        "add": lambda: k.add(a, b[0]),
        "add in three dimensions": lambda: k.add(cube.transpose(1, 0, 2), cube[:1, 0]),
        "add_backward": lambda: k.add_backward(cube, (5, 1)),
        "lists": lambda: k.mul([[1.0, 2.0]], 3.0),
        "relu_backward": lambda: k.relu_backward(a, b),
        "gelu": lambda: k.gelu(cube),
        "sum": lambda: k.sum(a),
        "sum of axes": lambda: k.sum(cube, (0, 2)),
        "mean_backward": lambda: k.mean_backward(2.0, (3, 4)),
        "softmax": lambda: k.softmax(cube),
        "cross_entropy": lambda: k.cross_entropy(a, classes),
        "mean_squared_error": lambda: k.mean_squared_error(a, b),
        "mean_squared_error_backward": lambda: k.mean_squared_error_backward(1.0, a, b),
        "dropout": lambda: k.dropout(a, 0.5, 3),
        "sgd": lambda: k.sgd(a, b, 0.1, 0.9, a),
        "adam": lambda: k.adam(a, b, a, b * b, 3, 0.1),
        "rmsprop": lambda: k.rmsprop(a, b, b * b, 0.1),
        "norm": lambda: np.float64(k.norm([a, cube])),
    }


def bits(value):
    """The bits of a number, an array, or a tuple of them."""
    import numpy as np

    return tuple(np.asarray(one).tobytes() for one in (value if isinstance(value, tuple) else (value,)))


def kernel_case(name):
    call = kernel_calls()[name]
    wanted = bits(call())

    def check(result):
        assert result is None or bits(result) == wanted, "wrong bits"
        assert bits(call()) == wanted, "wrong bits afterwards"

    return call, check


def recording(layers):
    """Record a network of given arrays and its loss: (tape, loss, layers, input)."""
    import numpy as np

    from viva_tensor import autograd, nn

    tape, made = autograd.new_tape(), []
    for w, b in layers:
        weight, tape = autograd.new_variable(tape, w)
        bias, tape = autograd.new_variable(tape, b)
        made.append(nn.Linear(weight, bias))
    x, tape = autograd.new_constant(tape, np.ones((3, 4), "f4"))
    hidden, tape = nn.linear_forward(tape, made[0], x)
    hidden, tape = nn.gelu(tape, hidden)
    hidden, tape = autograd.concatenate(tape, [hidden, hidden], axis=0)
    hidden, tape = autograd.slice(tape, hidden, np.s_[1:4])
    output, tape = nn.linear_forward(tape, made[1], hidden)
    classes, tape = autograd.new_constant(tape, np.array([0, 1, 1], "f4"))
    loss, tape = nn.cross_entropy(tape, output, classes)
    return tape, loss, made, x


def arrays():
    """Weights and biases of two layers."""
    import numpy as np

    rng = np.random.default_rng(0)
    return [tuple(rng.standard_normal(shape).astype("f4") for shape in ((n, m), n)) for m, n in ((4, 5), (5, 2))]


def eager():
    """A step on the tape: recording, gradients, update."""
    from viva_tensor import autograd, optim

    given, adam = arrays(), optim.Adam(lr=0.1)

    def call():
        tape, loss, layers, _ = recording(given)
        grads = autograd.backward(tape, loss)
        state = optim.init(adam, layers)
        (stepped, _), _ = optim.update(autograd.new_tape(), adam, state, layers, grads)
        return tuple(variable.data for layer in stepped for variable in layer)

    return whole(call)


def compiling():
    """A recorded program that is compiled and used once."""
    from viva_tensor import optim, program

    tape, loss, layers, x = recording(arrays())

    def call():
        step = program.compile_step(tape, loss=loss, params=layers, inputs=(x,), optimizer=optim.Adam(lr=0.1))
        predict = program.compile_forward(tape, output=loss, inputs=(x,))
        return step(x.data), predict(x.data), *step.state().params

    return whole(call)


def whole(call):
    """A call that makes all that it uses: what it gives has the same bits each time."""
    wanted = bits(call())

    def check(result):
        assert result is None or bits(result) == wanted, "wrong bits"
        assert bits(call()) == wanted, "wrong bits afterwards"

    return call, check


def trained_further(advance, steps=1, **options):
    """A call that makes steps of one program, or none."""
    from support.training import compiled, digest

    step, _, X, Y = compiled(**options)
    twin, _, _, _ = compiled(**options)
    advance(step, X, Y)

    def check(_):
        for _ in range(twin.steps // steps, step.steps // steps):
            advance(twin, X, Y)
        if twin.steps < step.steps:  # a run that ended between two of its steps: the state is that of both from now on
            assert step.steps < twin.steps + steps, "steps that nobody asked for"
            step.restore(twin.state())
        assert digest(twin) == digest(step), "wrong bits"

    return lambda: advance(step, X, Y), check


def forward(fresh):
    """Predictions, for a batch size that was planned or for one that was not."""
    from support.training import compiled

    _, predict, X, _ = compiled(sizes=(6, 5, 3), batch=40)

    def call():
        if fresh:
            predict._idle.clear()
        return predict(X[:20])

    whole_batch = bits(predict(X))

    def check(result):
        assert result is None or result.tobytes() == whole_batch[0][: result.nbytes], "wrong bits"
        assert bits(predict(X)) == whole_batch, "wrong bits afterwards"

    return call, check


def state():
    """Parameters as values, and a state that is put back."""
    from support.training import compiled, digest
    from viva_tensor import autograd

    step, _, X, Y = compiled(sizes=(6, 5, 3), batch=7)
    step(X, Y)
    wanted, kept = digest(step), step.state()

    def call():
        step.params(autograd.new_tape())
        step.restore(kept)
        return step.state()

    def check(result):
        step.restore(kept)
        assert digest(step) == wanted, "wrong bits"

    return call, check


def files():
    """Weights that are saved and loaded: the file is the old one or the new one."""
    import numpy as np

    from support.networks import network
    from viva_tensor import checkpoint

    folder = Path(tempfile.mkdtemp())
    layers = [network(np.random.default_rng(seed), "f4", (3, 4, 2))[0] for seed in range(2)]
    known = [bits(tuple(array.data for layer in one for array in layer)) for one in layers]
    path = folder / "weights.safetensors"
    checkpoint.save_weights(path, layers[0])
    turn = itertools.count(1)

    def read():
        found = checkpoint.load_weights(path).value
        return bits(tuple(array.data for layer in found for array in layer))

    def call():
        checkpoint.save_weights(path, layers[next(turn) % 2])
        return read()

    def check(_):
        assert read() in known, "a file that is neither"
        assert [one.name for one in folder.iterdir()] == [path.name], "something is left behind"

    return call, check


CASES = {
    "record": eager,
    "compile": compiling,
    "step": lambda: trained_further(lambda step, X, Y: step(X, Y)),
    "step from lists": lambda: trained_further(lambda step, X, Y: step(X.tolist(), Y), sizes=(6, 5, 3), batch=7),
    "run": lambda: trained_further(
        lambda step, X, Y: step.run(X, Y, batch_size=50, shuffle=False), steps=4, sizes=(6, 5, 3)
    ),
    "forward": lambda: forward(False),
    "forward of new sizes": lambda: forward(True),
    "state": state,
    "files": files,
}


# What CPython raises in place of a MemoryError that it lost while it opened a file, and PyO3 for any.
LOST = ("not PosixPath", "can't allocate read lock", "PyObject pointer is null")


def theirs(error, row):
    """Whether CPython, NumPy or safetensors lost the MemoryError on the way and raise something else."""
    if any(words in str(error) for words in LOST):
        return True
    if not isinstance(error, SystemError):
        return False
    where = traceback.extract_tb(error.__traceback__)[-1].filename
    return (
        row > 1 or "site-packages" in where or any(name in str(error) for name in ("Py_BuildValue", "ndindex", "numpy"))
    )


def attempt(call, check, n, row):
    """Call with so many allocations failing from the n-th on: (how many did fail, what went wrong)."""
    process = ctypes.CDLL(None)
    process.fail_at.argtypes, process.fail_at.restype = [ctypes.c_long, ctypes.c_long], None
    process.end_failing.restype = ctypes.c_long
    result, wrong = None, None
    process.fail_at(n, row)
    try:
        result = call()
    except MemoryError:
        pass
    except BaseException as other:
        wrong = other
    failed = process.end_failing()
    if wrong is None or theirs(wrong, row):
        if wrong is not None:
            print("PASSED OVER", repr(wrong), flush=True)
        try:
            check(result)
            wrong = None
        except BaseException as other:
            wrong = other
    return failed, wrong


def main(*cases):
    """Fail at the first, first + every, ... allocation until a call needs no more of them; how often it went wrong."""
    failures = faults = 0
    for case in cases:
        name, every, first = (*case.split(":"), "1", "1")[:3]
        for each in kernel_calls() if name == "kernels" else [name]:
            call, check = kernel_case(each) if name == "kernels" else CASES[each]()
            check(call())
            for n in itertools.count(int(first), int(every)):
                failed = 0
                for row in (1, 10):  # of all from one on, CPython 3.11 loops for ever where it looks for a handler
                    print(f"{each} {n}", flush=True)
                    now, wrong = attempt(call, check, n, row)
                    failed += now
                    failures += now > 0
                    if wrong is not None:
                        faults += 1
                        print("WRONG", each, n, row, *traceback.format_exception(wrong), flush=True)
                if not failed:
                    break
    print(failures, "calls with failing allocations,", faults, "faults", flush=True)
    return faults


if __name__ == "__main__":
    sys.exit(min(main(*sys.argv[1:]), 1))
