"""Benchmarks for airspeed velocity.

In this folder's parent: ``asv machine --yes`` once on a machine, then ``asv run --quick -E existing`` for the installed
package, or ``asv run`` for commits. gate.py there compares two.
"""

import os

# Some set-ups slow NumPy by these, which it reads while it is loaded: compare with NumPy as it comes.
for name in [name for name in os.environ if name.startswith(("OPENBLAS_", "NVPL_"))]:
    del os.environ[name]
