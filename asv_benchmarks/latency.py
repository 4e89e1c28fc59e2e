"""How long a small batch takes through a trained network, ours beside other libraries'.

usage: python asv_benchmarks/latency.py [--threads 1] [--callers 1] [--libraries viva_tensor,torch,...] [--rows 1,8,64]

Microseconds of a call that takes a NumPy array and gives one, the best of some rounds. Each library measures in a
process of its own, on a machine that does nothing else; torch_compiled is `torch.compile`. With more callers, so many
Python threads call at once, as those of a web server do, and the figure is the time ÷ the calls of all.
"""

import argparse
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec

import numpy as np
from benchmarks.common import enough_calls, limited, seconds_per_call
from benchmarks.peers import Weights, jax_forward, torch_model, weights_of

NETWORKS = {"64-64": (64, 64), "8-64-64-1": (8, 64, 64, 1), "784-256-128-10": (784, 256, 128, 10)}
ROUNDS, SECONDS = 9, 0.02
Call = Callable[[np.ndarray], object]


def recorded(weights: Weights, rows: int):  # type: ignore[no-untyped-def]  # names of the package, imported below
    """Return a tape of the forward pass, its output and its input."""
    from viva_tensor import autograd, nn

    x, tape = autograd.new_constant(autograd.new_tape(), np.zeros((rows, weights[0][0].shape[1]), "f4"))
    layers = []
    for w, b in weights:
        w_variable, tape = autograd.new_variable(tape, w)
        b_variable, tape = autograd.new_variable(tape, b)
        layers.append(nn.Linear(w_variable, b_variable))
    y, tape = nn.mlp_forward(tape, layers, x)
    return tape, y, x


def viva_call(weights: Weights, rows: int, threads: int) -> Call:
    from viva_tensor import program, set_num_threads

    set_num_threads(threads)
    tape, y, x = recorded(weights, rows)
    return program.compile_forward(tape, output=y, inputs=(x,))


def torch_call(weights: Weights, rows: int, threads: int, compiled: bool = False) -> Call:
    import torch

    torch.set_num_threads(threads)
    model = torch_model(weights).eval()
    model = torch.compile(model) if compiled else model

    def call(x: np.ndarray) -> object:
        with torch.inference_mode():
            return model(torch.from_numpy(x)).numpy()

    return call


def torch_compiled_call(weights: Weights, rows: int, threads: int) -> Call:
    return torch_call(weights, rows, threads, compiled=True)


def jax_call(weights: Weights, rows: int, threads: int) -> Call:
    import jax

    forward = jax.jit(lambda x: jax_forward(weights, x))
    return lambda x: np.asarray(forward(x))


def onnxruntime_call(weights: Weights, rows: int, threads: int) -> Call:
    from tempfile import TemporaryDirectory

    import onnxruntime

    from viva_tensor import export

    tape, y, x = recorded(weights, rows)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    with TemporaryDirectory() as folder:
        export.onnx(f"{folder}/model.onnx", tape, output=y, inputs=(x,))
        session = onnxruntime.InferenceSession(f"{folder}/model.onnx", options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x: session.run(None, {name: x})[0]


def sklearn_call(weights: Weights, rows: int, threads: int) -> Call:
    from sklearn.neural_network import MLPRegressor

    rng = np.random.default_rng(0)
    inputs, outputs = weights[0][0].shape[1], len(weights[-1][0])
    if len(weights) == 1:
        raise ValueError("scikit-learn's networks have a hidden layer")
    model = MLPRegressor(hidden_layer_sizes=[len(w) for w, _ in weights[:-1]], max_iter=1)
    x, y = rng.random((200, inputs), "f4"), rng.random((200, outputs), "f4")
    return model.fit(x, y if outputs > 1 else y.ravel()).predict


CALLS = {
    "viva_tensor": viva_call, "torch": torch_call, "torch_compiled": torch_compiled_call, "jax": jax_call,
    "onnxruntime": onnxruntime_call, "sklearn": sklearn_call,
}  # fmt: skip


def measure(library: str, network: str, rows: int, threads: int, callers: int) -> float:
    """Return the seconds of a call in this process, or the seconds for each call of several callers."""
    run = CALLS[library](weights_of(NETWORKS[network]), rows, threads)
    x = np.random.default_rng(1).random((rows, NETWORKS[network][0]), "f4")
    calls, _ = enough_calls(lambda: run(x), SECONDS)
    if callers == 1:
        return min(seconds_per_call(lambda: run(x), calls) for _ in range(ROUNDS))
    with ThreadPoolExecutor(callers) as pool:

        def all_call() -> None:
            list(pool.map(lambda _: seconds_per_call(lambda: run(x), calls), range(callers)))

        return min(seconds_per_call(all_call, 1) for _ in range(ROUNDS)) / (callers * calls)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = [name for name in CALLS if find_spec(name.removesuffix("_compiled"))]
    parser.add_argument("--libraries", default=",".join(known))
    parser.add_argument("--rows", default="1,8,64")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--callers", type=int, default=1)
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        library, network, rows = options.measure
        print(measure(library, network, int(rows), options.threads, options.callers))
        return
    libraries = options.libraries.split(",")
    print(f"{'microseconds':<16} rows" + "".join(f"{name:>16}" for name in libraries))
    for network in NETWORKS:
        for rows in options.rows.split(","):
            line = f"{network:<16}{rows:>5}"
            for library in libraries:
                command = [sys.executable, __file__, "--threads", str(options.threads)]
                command += ["--callers", str(options.callers), "--measure", library, network, rows]
                done = subprocess.run(
                    command, env=limited(options.threads), capture_output=True, text=True, check=False
                )
                line += f"{1e6 * float(done.stdout):>16.2f}" if done.returncode == 0 else f"{'-':>16}"
            print(line, flush=True)


if __name__ == "__main__":
    main()
