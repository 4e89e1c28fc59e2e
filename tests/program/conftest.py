"""Shared by the tests of programs: thresholds that are those of the library again after each test."""

from contextlib import ExitStack

import pytest

from viva_tensor.program import thresholds


@pytest.fixture
def thresholds_changed():
    """Called with thresholds, puts them in force until the test ends."""
    with ExitStack() as stack:
        yield lambda **values: stack.enter_context(thresholds.changed(**values))
