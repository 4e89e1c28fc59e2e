"""Ranks that train together: what they agree on, where they run, what each has of memory, and how one ends the job.

All communication is that of mpi4py. Without a communicator there is one rank, and every function does the obvious.
"""

from viva_tensor.distributed.places import Place, binding, complaints, own_threads, places, warn_of_places
from viva_tensor.distributed.ranks import ALONE, Ranks, job, world

__all__ = [
    "ALONE",
    "Place",
    "Ranks",
    "binding",
    "complaints",
    "job",
    "own_threads",
    "places",
    "warn_of_places",
    "world",
]
