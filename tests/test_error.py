import pickle

import pytest

from viva_tensor import error


@pytest.mark.parametrize(
    ("made", "builtin", "text"),
    [
        (error.ShapeMismatch((1, 2), (3,)), ValueError, "expected shape (1, 2), got (3,)"),
        (error.InvalidShape("no features"), ValueError, "no features"),
        (error.BroadcastError((2,), (3,)), ValueError, "shapes (2,) and (3,) cannot be broadcast together"),
        (error.DimensionError("two wanted"), ValueError, "two wanted"),
        (error.DtypeError("int8"), TypeError, "int8"),
        (error.IndexOutOfBounds(3, 2), IndexError, "index 3 is out of bounds for size 2"),
        (error.ForeignVariable("elsewhere"), ValueError, "elsewhere"),
        (error.NoGradient("constant"), KeyError, "constant"),
        (error.InvalidValue("lr"), ValueError, "lr"),
        (error.InvalidFile("cut short"), ValueError, "cut short"),
        (error.GradientMismatch(0, (1,), 2.0, 3.0), AssertionError, "input 0, element (1,): backward gives 2,"),
    ],
)
def test_kinds_are_tensor_errors_and_built_ins_and_survive_pickling(made, builtin, text):
    made.operation, made.hint = "op", "do this"
    assert isinstance(made, error.TensorError)
    assert isinstance(made, builtin)
    assert str(made).startswith(f"op: {text}")
    assert str(made).endswith("; do this")
    again = pickle.loads(pickle.dumps(made))
    assert type(again) is type(made)
    assert str(again) == str(made)
    assert vars(again) == vars(made)


def test_every_kind_is_public():
    kinds = {name for name, value in vars(error).items() if isinstance(value, type) and issubclass(value, Exception)}
    assert kinds == set(error.__all__)
