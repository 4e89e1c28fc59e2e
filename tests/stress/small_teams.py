"""A pytest plugin for ThreadSanitizer builds: three threads for any work at all, so that small tests, which usually
stay on one thread, run on teams and wait at barriers.
"""

from collections.abc import Iterator

import pytest

import viva_tensor as vt
from viva_tensor.program import thresholds

thresholds.use(thresholds.Thresholds(eagerness=1e6, **thresholds.EVERYWHERE))


@pytest.fixture(autouse=True)
def three_threads() -> Iterator[None]:
    vt.set_num_threads(3)
    yield
    vt.set_num_threads(None)
