"""Random programs of every operation, many of them: python -m stress.programs [--examples N] [--verify].

Proves, program by program, that eager and compiled training have the same bits (losses and parameters over several
steps, batches of other sizes, 1 to 3 threads, with clipping, dropout and every optimiser), that predictions do, that
forked tapes are left alone, and that each value and gradient is within its rounding of a float64 calculation by NumPy.
The machine is that of tests/support/random_programs.py, of which the test suite runs a few examples; a thousand take
about a minute. Exits with an error, and a program as small as hypothesis finds, if anything differs.
"""

import argparse
import contextlib
import io

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from support.played_programs import TRIED
from support.random_programs import Programs
from support.verification import Verifier

from viva_tensor.program import observation


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=30, help="rules applied to each program at most")
    parser.add_argument("--no-shrink", action="store_true", help="stop at the first difference, as it was found")
    parser.add_argument("--verify", action="store_true", help="also check that no pass changes a program")
    options = parser.parse_args()
    phases = [Phase.generate] if options.no_shrink else [Phase.generate, Phase.shrink]
    chosen = settings(
        max_examples=options.examples,
        stateful_step_count=options.steps,
        deadline=None,
        database=None,
        phases=phases,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    observation.observe = Verifier if options.verify else observation.Observer
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # what the machine would print of each rule
            run_state_machine_as_test(Programs, settings=chosen)
    finally:
        for name, count in sorted(TRIED.items()):
            print(f"{count:>9,}  {name}")


if __name__ == "__main__":
    main()
