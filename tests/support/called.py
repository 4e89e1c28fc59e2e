"""Functions of a module that are called by name from the command line."""

import sys
from collections.abc import Callable
from typing import Any


def called(*functions: Callable[..., Any]) -> None:
    """Call the one of these functions that the first argument names with the other arguments, which are texts."""
    {function.__name__: function for function in functions}[sys.argv[1]](*sys.argv[2:])
