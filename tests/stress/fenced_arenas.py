"""A pytest plugin for AddressSanitizer builds: forbidden bytes behind each temporary of a program.

Temporaries lie in one arena without gaps, so that an overrun of one would hit another and go unseen.
"""

import ctypes
from typing import Any

from viva_tensor.program import forward, planning, ranks, step, thresholds

GAP = 256  # bytes: more than a vector, or than a tile's row
UNCACHED = (
    4096  # bytes; NumPy keeps smaller blocks when they are freed, and would use them again with what is forbidden
)

forbid = ctypes.CDLL(None).__asan_poison_memory_region
forbid.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
plan, size_of, aligned = planning.plan, planning._bytes, planning.aligned


def fenced(*arguments: Any, **named: Any) -> planning.Plan:
    made = plan(*arguments, **named)
    dtype = arguments[4]
    for buffer, place in made.places.items():
        used = buffer.size * dtype.itemsize
        forbid(made.arena.ctypes.data + place + used, planning._bytes(buffer, dtype) - used)
    return made


thresholds.use(thresholds.Thresholds(unshared=1 << 60))  # no two temporaries share memory
planning._bytes = lambda buffer, dtype: size_of(buffer, dtype) + GAP
planning.aligned = lambda size: aligned(size + UNCACHED)
planning.plan = step.plan = forward.plan = ranks.plan = fenced
