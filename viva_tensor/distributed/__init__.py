"""Ranks that train together: what must be equal on them, how they are bound, their shares of memory, how a job ends.

All communication goes through mpi4py. Without a communicator there is one rank, and every function works for it alone.
"""

from viva_tensor.distributed.affinity import (
    Affinity,
    affinities,
    affinity_problems,
    binding_command,
    default_threads,
    warn_of_affinity,
)
from viva_tensor.distributed.ranks import ALONE, Ranks, job, world

__all__ = [
    "ALONE",
    "Affinity",
    "Ranks",
    "affinities",
    "affinity_problems",
    "binding_command",
    "default_threads",
    "job",
    "warn_of_affinity",
    "world",
]
