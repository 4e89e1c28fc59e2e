"""Shared by all tests: seeded data, and threads back to the default after each."""

import signal

import numpy as np
import pytest
from support.verification import Verifier

import viva_tensor as vt
from viva_tensor.program import observation

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as shells start what runs in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)

OF_SEVERAL = ("test_presets", "test_small_tables")  # tests that ask when several networks are trained
collect_ignore = ["stress", "support/process_programs", "support/rank_programs"]  # what has a process of its own
observation.observe = Verifier  # every pass over the programs that a test compiles is checked, but for very large ones


@pytest.fixture
def rng():
    return np.random.default_rng(20)


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    return np.dtype(request.param)


@pytest.fixture(autouse=True)
def _one_network_on_few_rows(request, monkeypatch):
    """Spare the time of several networks in tests of tables, where one tells as much."""
    if request.path.parent.name in ("tabular", "estimators") and request.path.stem not in OF_SEVERAL:
        monkeypatch.setattr("viva_tensor.tabular.members.LEAST_ROWS", 1000)


@pytest.fixture(autouse=True)
def _default_threads():
    yield
    vt.set_num_threads(None)
