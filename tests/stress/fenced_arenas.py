"""A pytest plugin for AddressSanitizer builds: forbidden bytes behind each temporary of a program.

Temporaries lie in one arena without gaps, so that an overrun of one would hit another and go unseen.
"""

import ctypes
from typing import Any

from viva_tensor.program import forward, memory, planning, ranks

GAP = 256  # bytes: more than a vector, or than a tile's row
UNCACHED = (
    4096  # bytes; NumPy keeps smaller blocks when they are freed, and would use them again with what is forbidden
)

forbid = ctypes.CDLL(None).__asan_poison_memory_region
forbid.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
plan, bytes_of, aligned = planning.plan, memory.Arena.bytes_of, memory.aligned


def fenced(*arguments: Any, **named: Any) -> planning.Plan:
    made = plan(*arguments, **named)
    arena = memory.Arena(arguments[3].itemsize)
    for buffer, offset in made.offsets.items():
        used = buffer.size * arguments[3].itemsize
        forbid(made.arena.ctypes.data + offset + used, arena.bytes_of(buffer) - used)
    return made


vars(planning)["unshared_size"] = lambda *arguments: -1  # no two share memory, also where a test asks for it
memory.Arena.bytes_of = lambda self, buffer: bytes_of(self, buffer) + GAP  # type: ignore[method-assign]
vars(planning)["aligned"] = lambda size: aligned(size + UNCACHED)
for module in (planning, forward, ranks):
    vars(module)["plan"] = fenced
