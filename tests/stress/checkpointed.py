"""The command line, with checkpoints at epochs instead of minutes: what stress/rank_kills.py kills."""

from functools import partial

from viva_tensor import __main__, train
from viva_tensor.tabular import fitting

if __name__ == "__main__":
    fitting.fit_network = partial(train.fit, checkpoint_epochs=1)  # type: ignore[attr-defined]
    __main__.main()
