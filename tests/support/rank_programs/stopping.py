"""The command line on ranks of which one stops in the fifth epoch, in the way that the first argument names.

Of ``never`` none does. The baseline that takes long, boosted trees, is spared.
"""

import os
import signal
import sys
from functools import partial
from typing import Any

from mpi4py import MPI

from viva_tensor import train
from viva_tensor.__main__ import main
from viva_tensor.tabular import fitting, runs
from viva_tensor.train import training


def stop(how: str) -> None:
    """Stop this rank by Ctrl-C, an error or a signal."""
    if how == "interrupt":
        raise KeyboardInterrupt
    if how == "error":
        raise ValueError("of this rank alone")
    os.kill(os.getpid(), signal.SIGTERM if how == "terminate" else signal.SIGKILL)


if __name__ == "__main__":
    how = sys.argv.pop(1)
    runs.imports_scikit_learn = lambda use: False  # type: ignore[attr-defined]
    advance = training.Training.advance

    def stopping(self: training.Training, *arguments: Any) -> None:
        """Stop rank 1 after four epochs."""
        if how != "never" and self.epoch == 4 and MPI.COMM_WORLD.rank == 1:
            stop(how)
        advance(self, *arguments)

    training.Training.advance = stopping  # type: ignore[assignment, method-assign]
    fitting.fit_network = partial(train.fit, checkpoint_epochs=1)  # type: ignore[attr-defined]
    main()
