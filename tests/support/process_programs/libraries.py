"""Programs that share their process with other libraries, of which some are imported first."""

import os
import sys
import warnings

import numpy as np

from support.called import called


def limited() -> None:
    """Print whether programs keep to the limits of threadpoolctl, and to their bits."""
    import threadpoolctl

    from support.training import compiled, digest, trained

    step, predict, X, Y = compiled()
    with threadpoolctl.threadpool_limits(1):
        before = len(os.listdir("/proc/self/task"))
        step(X, Y)
        predict(X)
        step.run(X, Y, batch_size=200, shuffle=False)
        assert step._plans.current.threads == 1, step._plans.current.threads
        assert len(os.listdir("/proc/self/task")) == before
    with threadpoolctl.threadpool_limits(3):
        step(X, Y)
    print(digest(step) == trained(steps=3))


def nested_limits() -> None:
    """Print the number of threads within limits of threadpoolctl, one in the other, and what decided it."""
    import threadpoolctl

    from viva_tensor.kernels import threads

    with threadpoolctl.threadpool_limits(2, user_api="openmp"):
        before = threads.get_num_threads()
        print(before)
        with threadpoolctl.threadpool_limits(1, user_api="openmp"):
            print(threads.get_num_threads(), threads.decided_by())
        print(threads.get_num_threads() == before)


def use(library: str) -> None:
    """Compute something with a library that has threads of its own."""
    X = np.random.default_rng(0).standard_normal((400, 8))
    if library == "torch":
        import torch

        torch.set_num_threads(2)
        torch.mm(torch.ones(500, 500), torch.ones(500, 500)).sum().item()
    else:
        from sklearn.ensemble import HistGradientBoostingClassifier  # which has teams of OpenMP of its own

        HistGradientBoostingClassifier(max_iter=2).fit(X, X[:, 0] > 0).score(X, X[:, 0] > 0)


def beside(library: str, order: str) -> None:
    """Print the bits of training before and after a library is used, which may have been imported first."""
    warnings.simplefilter("ignore")
    assert "viva_tensor" not in sys.modules
    if order == "first":
        use(library)
    import viva_tensor as vt
    from support.training import trained

    vt.set_num_threads(2)
    bits = [trained()]
    use(library)
    bits.append(trained())
    if hasattr(os, "fork"):
        child = os.fork()
        if child == 0:
            os._exit(0 if trained() == bits[0] else 1)
        assert os.waitpid(child, 0)[1] == 0
    print(*bits)


if __name__ == "__main__":
    called(limited, nested_limits, beside)
