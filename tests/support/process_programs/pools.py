"""Workers of a pool, started by one of multiprocessing's methods, that train as their parent does."""

import multiprocessing
import sys
import warnings

import viva_tensor as vt
from support.training import trained


def main(method: str) -> None:
    """Print whether workers have the bits of this process."""
    warnings.simplefilter("ignore", DeprecationWarning)  # of forks with threads, which are the subject
    vt.set_num_threads(2)
    wanted = [trained(seed) for seed in range(3)]
    with multiprocessing.get_context(method).Pool(2) as pool:
        print(pool.map_async(trained, range(3)).get(60) == wanted)


if __name__ == "__main__":
    main(sys.argv[1])
