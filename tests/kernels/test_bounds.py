"""Kernels read and write nothing outside their operands: arrays that end where the next page may not be touched."""

import sys

import pytest
from support.fresh import run_module

from viva_tensor.kernels import _dispatch


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="guards pages with Linux's mprotect")
def test_nothing_outside_the_operands_is_touched():
    assert run_module("support.process_programs.bounds", timeout=300, VIVA_TENSOR_ISA=_dispatch.isa) == "whole"
