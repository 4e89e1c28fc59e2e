"""Every public function says what it does and shows it."""

import importlib
import inspect
import pkgutil
import re

import pytest

import viva_tensor

MODULES = [
    module.name
    for module in pkgutil.walk_packages(viva_tensor.__path__, "viva_tensor.")
    if not any(part.startswith("_") for part in module.name.split("."))
]


def public(name):
    module = importlib.import_module(name)
    for attribute, value in vars(module).items():
        if attribute.startswith("_"):
            continue
        if getattr(value, "__module__", None) == name and (inspect.isfunction(value) or inspect.isclass(value)):
            yield attribute, value


@pytest.mark.parametrize("name", MODULES)
def test_every_module_and_public_name_is_documented(name):
    assert importlib.import_module(name).__doc__
    bare = [attribute for attribute, value in public(name) if not value.__doc__]
    assert not bare


@pytest.mark.parametrize("name", MODULES)
def test_formulas_have_single_backslashes(name):
    doubled = [attribute for attribute, value in public(name) if re.search(r"\\\\[a-z]", value.__doc__ or "")]
    assert not doubled


@pytest.mark.parametrize("name", ["autograd", "kernels", "nn", "optim", "program"])
def test_every_function_that_a_room_offers_has_an_example(name):
    room = importlib.import_module(f"viva_tensor.{name}")
    silent = [
        attribute
        for attribute in room.__all__
        if inspect.isfunction(getattr(room, attribute)) and ">>>" not in (getattr(room, attribute).__doc__ or "")
    ]
    assert not silent


@pytest.mark.parametrize("name", MODULES)
def test_every_source_is_cited(name):
    uncited = [
        f"[{number}] of {attribute}"  # which API pages leave out
        for attribute, value in public(name)
        for number in re.findall(r"\.\. \[(\d+)\]", value.__doc__ or "")
        if f"[{number}]_" not in value.__doc__
    ]
    assert not uncited
