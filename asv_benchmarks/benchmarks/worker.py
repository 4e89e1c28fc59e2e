"""A process of the speed gate: times the calls of cases.py with the viva_tensor that it imports.

Prints where viva_tensor lies, then reads requests and answers each on a line, in JSON: ``["make", name]`` makes a
case anew, in other memory each time, and answers the calls that fill a burst, or null if this version does not have it;
``["burst", calls]`` answers the seconds of so many calls.
"""

import json
import sys

import numpy as np

import viva_tensor as vt

from .cases import SHAPE, cases
from .common import enough_calls, seconds_per_call

SECONDS = 0.0015  # of a burst
# Bytes of results that calls allocate: what the last case has left of this size is held, so that the next one's results
# lie elsewhere, and at other places in a cache line.
RESULTS = 2 * (4 * SHAPE[0] * SHAPE[1], 8 * SHAPE[0] * SHAPE[1])
PLACES = 16


def main() -> None:
    print(json.dumps(vt.__file__), flush=True)
    known, function, held = cases(), _nothing, []
    for number, line in enumerate(sys.stdin):
        request, argument = json.loads(line)
        if request == "make":
            held.append([np.empty(size, np.uint8) for size in (*RESULTS, 16 * (number % 4) + 2064)])
            held[: len(held) - PLACES] = []
            vt.set_num_threads(known[argument].threads)
            answer: float | None = None
            try:
                function = known[argument].make(np.random.default_rng(0))
                answer = enough_calls(function, SECONDS)[0]
            except AttributeError:
                function = _nothing
        else:
            answer = seconds_per_call(function, argument)
        print(json.dumps(answer), flush=True)


def _nothing() -> None:
    pass


if __name__ == "__main__":
    main()
