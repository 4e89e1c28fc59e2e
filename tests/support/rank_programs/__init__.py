"""Programs that tests start on several ranks: ``mpiexec -n 3 python -m support.rank_programs.MODULE FUNCTION ...``.

Each function ends by telling what it found, which rank 0 prints for all.
"""
