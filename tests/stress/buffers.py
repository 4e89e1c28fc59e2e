"""Every kernel on buffers of any kind: the bits of contiguous copies, or a TensorError and nothing changed.

Dtypes, shapes of size 0 and rank 0 too, strides of 0, negative, odd, huge and overlapping, misaligned and read-only
memory, the other byte order, what offers only DLPack, the buffer protocol or __array__, and outputs that overlap the
operands or themselves. A crash ends the script, so the last line that it prints names the kernel. With --coverage the
inputs are guided by coverage of the Python code before the kernels (`pip install atheris`, for Python 3.11).

    python -m stress.buffers [--examples 2000]      # for each kernel; about 8 minutes
    python -m stress.buffers --coverage [--runs 100000]
"""

import argparse
import sys
import time
import traceback
import warnings
from collections import Counter
from typing import Any


def tried(name: str, examples: int, outcomes: Counter[str]) -> None:
    """Try one kernel."""
    from hypothesis import HealthCheck, given, settings, target
    from hypothesis import strategies as st
    from support.buffers import calls, check

    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def each(data: Any) -> None:
        call = data.draw(calls(name))
        target(float(sum(operand.odd for operand in call.operands)))
        outcomes[check(call, data.draw)] += 1

    each()


def guided(runs: int) -> None:
    """Let atheris choose what Hypothesis reads its draws from."""
    import atheris

    with atheris.instrument_imports(include=["viva_tensor"]):
        import viva_tensor.kernels  # noqa: F401
    from hypothesis import HealthCheck, given, settings
    from hypothesis import strategies as st
    from support.buffers import KERNELS, calls, check

    @settings(deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(sorted(KERNELS)), st.data())
    def each(name: str, data: Any) -> None:
        check(data.draw(calls(name)), data.draw)

    fuzzed: Any = each  # to which hypothesis gives what reads its draws from bytes
    options = [f"-runs={runs}", "-max_len=8192", "-len_control=0"]
    atheris.Setup([sys.argv[0], *options], fuzzed.hypothesis.fuzz_one_input)
    atheris.Fuzz()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=2000)
    parser.add_argument("--coverage", action="store_true")
    parser.add_argument("--runs", type=int, default=100_000)
    options = parser.parse_args()
    warnings.simplefilter("error")
    if options.coverage:
        guided(options.runs)
        return
    from support.buffers import KERNELS

    total: Counter[str] = Counter()
    failed = []
    for name in KERNELS:
        start = time.perf_counter()
        print(f"{name}: ", end="", flush=True)
        outcomes: Counter[str] = Counter()
        try:
            tried(name, options.examples, outcomes)
        except Exception:
            traceback.print_exc()
            failed.append(name)
        total += outcomes
        counts = ", ".join(f"{count:,} {kind}" for kind, count in sorted(outcomes.items()))
        print(f"{counts} in {time.perf_counter() - start:.0f} s", flush=True)
    print(f"{total.total():,} calls: {dict(total)}; failed: {', '.join(failed) or 'none'}")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
