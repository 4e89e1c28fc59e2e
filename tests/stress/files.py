"""Whatever a file holds, it is read right or refused in words: checkpoints, weights, models and tables.

Hypothesis changes bytes of good files, writes headers and trees that say anything, and tables in odd encodings, ragged,
with NUL bytes and names twice, for the library and the command line; every bit of a checkpoint and of a file of weights
is flipped once. What is refused raises a TensorError or a DataError; nothing else is raised, and nothing takes 20
seconds, or 2 GB more memory.

    python -m stress.files [--examples 20000]    # about 10 minutes; 2,000 examples take one
"""

import argparse
import json
import resource
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.errors import HypothesisWarning
from support.checkpoints import WRITTEN, full, read_or_refused, signed
from support.mangled import changed, headed, replanted, tables
from tabular.test_reading import trained_or_refused

from viva_tensor import error
from viva_tensor.checkpoint import codec, states
from viva_tensor.cli import cli
from viva_tensor.tabular import runs, saving
from viva_tensor.tabular.data import DataError
from viva_tensor.tabular.model import load
from viva_tensor.train import Settings

SECONDS = 20


def bits(folder: Path, outcomes: Counter[str]) -> None:
    """Flip each bit of what was written here."""
    for write, read in WRITTEN.values():
        path = write(folder / "c", np.random.default_rng(1))
        whole = path.read_bytes()
        for place in range(len(whole)):
            for bit in range(8):
                path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
                try:
                    read(path)
                    raise AssertionError(f"bit {bit} of byte {place} of {path} was flipped, and not noticed")
                except error.InvalidFile:
                    outcomes["bits flipped"] += 1


def tried(
    kind: str, check: Callable[[Any], None], strategy: st.SearchStrategy[Any], examples: int, outcomes: Counter[str]
) -> float:
    """Check many values, and return the longest time that one took."""
    times: list[float] = []

    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(strategy)
    def each(value: Any) -> None:
        start = time.perf_counter()
        check(value)
        times.append(time.perf_counter() - start)
        assert times[-1] < SECONDS, f"{times[-1]:.1f} s"

    each()
    outcomes[kind] += len(times)
    return max(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=20_000, help="of each kind")
    examples = parser.parse_args().examples
    outcomes: Counter[str] = Counter()
    slowest = 0.0
    tree_arrays: dict[str, Any] = {}
    tree = codec.encoded(full(np.random.default_rng(1)), "checkpoint", tree_arrays)
    warnings.simplefilter("error")
    warnings.simplefilter("ignore", HypothesisWarning)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        good = [write(folder / "good", np.random.default_rng(1)).read_bytes() for write, _ in WRITTEN.values()]

        def changed_bytes(data: bytes) -> None:
            path = folder / "c.safetensors"
            path.write_bytes(data)
            read_or_refused(path)

        def signed_tree(tree: Any) -> None:
            path = folder / "c.safetensors"
            metadata = {"viva_tensor": states.FORMAT, "written": "1", "checkpoint": json.dumps(tree)}
            read_or_refused(signed(path, tree_arrays, metadata))

        def table(made: Any) -> None:
            outcomes[f"  tables {trained_or_refused(folder, *made)}"] += 1

        def command(made: tuple[bytes, str]) -> None:
            data, separator = made
            path = folder / ("c.tsv" if separator == "\t" else "c.csv")
            path.write_bytes(data)
            output = folder / "run"
            flags = ["--epochs", "1", "--hidden", "2", "--force", "--output", output]
            for arguments in (["train", path, "--target", "c1", *flags], ["predict", output, path]):
                done = CliRunner().invoke(cli, [str(one) for one in arguments])
                outcomes[f"  commands that ended with {done.exit_code}"] += 1
                refused = done.exit_code == 2 and done.stderr.startswith("Error: ") and done.stderr.count("\n") == 1
                assert done.exit_code == 0 or refused, (done.stderr, done.exc_info)

        table_of_model = pd.DataFrame({"a": [1.5, 2.0, None, 4.0] * 9, "b": ["x", "y", None] * 12, "y": range(36)})
        model = folder / "model"
        saving.save(runs.run(table_of_model, "y", Settings(hidden=(2,), epochs=1)), model)
        preprocessing = json.loads((model / "preprocessing.json").read_text())
        del preprocessing["checksum"]  # which would keep all others out

        def described(tree: Any) -> None:
            (model / "preprocessing.json").write_text(json.dumps(tree))
            with suppress(DataError):
                found = load(model).predict(table_of_model)
                assert len(found) == len(table_of_model)

        bits(folder, outcomes)
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + (2 << 30), resource.RLIM_INFINITY))
        for kind, check, strategy in (
            ("descriptions of a model", described, replanted(preprocessing)),
            ("tables", table, tables()),
            ("tables on the command line", command, tables()),
            ("changed bytes", changed_bytes, st.sampled_from(good).flatmap(changed)),
            ("headers", changed_bytes, headed()),
            ("signed trees", signed_tree, replanted(tree)),
        ):
            start = time.perf_counter()
            count = examples // 20 if "command" in kind else examples
            slowest = max(slowest, tried(kind, check, strategy, count, outcomes))
            print(f"{kind}: {outcomes[kind]:,} in {time.perf_counter() - start:.0f} s", flush=True)
    for kind, count in sorted(outcomes.items()):
        print(f"{kind:<32} {count:>10,}")
    print(f"the slowest took {slowest:.2f} s")


if __name__ == "__main__":
    main()
