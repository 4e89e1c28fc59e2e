"""The page of operations in docs: every function on a tape, with what has been tested of it.

python -m support.operations_table    (in tests) writes it to docs/OPERATIONS.md.
"""

import inspect
import re
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from support.operation_cases import CASES
from support.tapes import recorded
from viva_tensor import autograd, nn
from viva_tensor.autograd import choices, functions, indexing, products, reductions, shaping
from viva_tensor.export.forms import FORMS
from viva_tensor.nn import (
    activations,
    embeddings,
    ensembles,
    likelihoods,
    losses,
    normalization,
    numeric_embeddings,
    periodic_embeddings,
    tabm,
)

PAGE = Path(__file__).parents[2] / "docs" / "OPERATIONS.md"
Function = Callable[..., Any]
cases: dict[str, tuple[Any, Any]] = CASES
GROUPS: dict[str, tuple[Any, Any]] = {
    "Arithmetic and curves": (autograd, functions),
    "Choices and comparisons": (autograd, choices),
    "Sums and extremes along axes": (autograd, reductions),
    "Products": (autograd, products),
    "Shapes": (autograd, shaping),
    "Indices": (autograd, indexing),
    "Activations": (nn, activations),
    "Layers": (nn, (nn.layers, embeddings, normalization, numeric_embeddings, periodic_embeddings, ensembles, tabm)),
    "Losses": (nn, (losses, likelihoods)),
}
HEAD = """# Operations

Every function that records on a tape. Each is tested, eager and compiled, in float32 and float64: its gradient against
central differences, its second derivatives in reverse and in forward mode against each other and against differences of
gradients, and programs against eager code, bit for bit. The values of the operations that it records are held against
NumPy; that several together are the function's formula is left to tests of its own. A function without a slope has
derivatives of 0. ONNX: whether a model that uses it can be exported; the runtime's results are within rounding.

`argmax` and sorting have no slope and work on arrays: `np.argmax(x.data, axis=1)`.

This page is made by `tests/support/operations_table.py`, and a test compares it.
"""


def names(modules: Any) -> list[str]:
    """The functions of modules that take a tape and something recorded on it."""
    found = set()
    for module in modules if isinstance(modules, tuple) else (modules,):
        for name in module.__all__:
            function = getattr(module, name)
            own = inspect.isfunction(function) and function.__module__ == module.__name__
            if own and next(iter(inspect.signature(function).parameters)) == "tape":
                found |= set() if makes_layers(function) else {name}
    return sorted(found)


def makes_layers(function: Function) -> bool:
    """Whether it records new parameters instead of working on what is recorded."""
    second = list(inspect.signature(function).parameters)[1]
    return second in ("features", "in_features", "channels", "categories", "sizes", "edges")


def uses() -> dict[str, set[str]]:
    """For each function the cases that call it."""
    called: dict[str, set[str]] = {}
    current: list[str] = []

    def logging(function: Function, *arguments: Any, **options: Any) -> Any:
        called.setdefault(function.__name__, set()).update(current)
        return function(*arguments, **options)

    with ExitStack() as patches:
        for room, modules in GROUPS.values():
            for name in names(modules):
                patches.enter_context(patch.object(room, name, partial(logging, getattr(room, name))))
        for case, (function, shapes) in cases.items():
            current[:] = [case]
            if inspect.isfunction(function):
                called.setdefault(function.__name__, set()).add(case)
            recorded_by(function, shapes)
    return called


def recorded_by(function: Function, shapes: Any) -> set[str]:
    """The names of the operations that a case records."""
    rng = np.random.default_rng(0)
    *variables, tape = recorded(*(rng.standard_normal(shape) for shape in shapes))
    _, tape = function(tape, *variables)
    return {node.operation.name for node in tape.nodes() if node.inputs}


def what(function: Function) -> str:
    """The first sentence of a docstring, in short."""
    line = str(function.__doc__).splitlines()[0]
    line = re.sub(r":func:`(?:viva_tensor\.)?([\w.]+)`", r"`\1`", re.sub(r" \[1\]_", "", line))
    line = re.sub(r":math:`([^`]*)`", r"$\1$", line)
    return line.replace("|", "\\|").split("; see ")[0].rstrip(" .,:")


def page() -> str:
    """The page as Markdown."""
    called, lines = uses(), [HEAD]
    for title, (room, modules) in GROUPS.items():
        lines += [
            f"## {title}",
            "",
            "| function | what it records | eager | compiled | order 2 | ONNX |",
            "|---|---|---|---|---|---|",
        ]
        for name in names(modules):
            function = getattr(room, name)
            tried = called.get(name)
            assert tried, f"{name} is in no case of support.operation_cases"
            exported = any(recorded_by(*cases[case]) <= FORMS.keys() for case in tried)
            room_name = room.__name__.rpartition(".")[2]
            lines.append(f"| `{room_name}.{name}` | {what(function)} | ✓ | ✓ | ✓ | {'✓' if exported else '–'} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    text = page()  # before the file is opened, which empties it
    PAGE.write_text(text, encoding="utf-8")
