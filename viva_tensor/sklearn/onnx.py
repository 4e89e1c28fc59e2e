"""How skl2onnx writes the networks, alone and in pipelines: it is told when this module or export is imported."""

from __future__ import annotations

import math
from importlib.util import find_spec
from typing import Any

import numpy as np

from viva_tensor.error import InvalidValue
from viva_tensor.sklearn.estimators import MLPClassifier, MLPRegressor

__all__ = ["register"]

FLOAT, INT64, STRING, DOUBLE = 1, 7, 8, 11  # the numbers that ONNX has for types

PLAIN = {
    "relu": "Relu",
    "tanh": "Tanh",
    "logistic": "Sigmoid",
    "elu": "Elu",
    "selu": "Selu",
    "softplus": "Softplus",
    "exp": "Exp",
}


class _Nodes:
    """What is added to a model, under names that nothing else in it has."""

    def __init__(self, scope: Any, operator: Any, container: Any) -> None:
        self._scope, self._container = scope, container
        from skl2onnx.common.data_types import guess_proto_type

        self._dtype = DOUBLE if guess_proto_type(operator.inputs[0].type) == DOUBLE else FLOAT
        self.input = self.add("Cast", operator.inputs[0].full_name, to=self._dtype)

    def add(self, kind: str, *inputs: str, result: str | None = None, **attributes: Any) -> str:
        """Add a node and return the name of its result."""
        result = result or self._scope.get_unique_variable_name(kind.lower())
        if kind == "ArrayFeatureExtractor":
            attributes["op_domain"] = "ai.onnx.ml"
        name = self._scope.get_unique_operator_name(kind)
        self._container.add_node(kind, list(inputs), result, name=name, **attributes)
        return result

    def constant(self, values: Any, kind: int | None = None) -> str:
        """Add numbers in the dtype of the computation, or in one that ONNX has this number for."""
        name: str = self._scope.get_unique_variable_name("constant")
        array = np.asarray(values)
        self._container.add_initializer(name, kind or self._dtype, list(array.shape), array.ravel().tolist())
        return name

    def bend(self, kind: str, x: str) -> str:
        """Add an activation, by its name among the parameters."""
        if kind == "identity":
            return x
        if kind == "leaky_relu":
            if self._dtype == FLOAT:
                return self.add("LeakyRelu", x)  # its default slope is ours, too
            below = self.add("Relu", self.add("Neg", x))
            return self.add("Sub", self.add("Relu", x), self.add("Mul", below, self.constant([0.01])))
        if kind == "silu":
            return self.add("Mul", x, self.add("Sigmoid", x))
        if kind == "mish":
            return self.add("Mul", x, self.add("Tanh", self.add("Softplus", x)))
        if kind == "gelu":
            share = self.add("Erf", self.add("Mul", x, self.constant([math.sqrt(0.5)])))
            half = self.add("Mul", x, self.constant([0.5]))
            return self.add("Add", half, self.add("Mul", half, share))
        return self.add(PLAIN[kind], x)

    def outputs(self, mlp: Any) -> str:
        """Add the layers, and return the name of the outputs before the last activation."""
        x = self.input
        for layer, (w, b) in enumerate(zip(mlp.coefs_, mlp.intercepts_, strict=True)):
            x = self.bend(mlp.activation, x) if layer else x
            x = self.add("Add", self.add("MatMul", x, self.constant(w)), self.constant(b))
        return x


def _convert_regressor(scope: Any, operator: Any, container: Any) -> None:
    mlp, nodes = operator.raw_operator, _Nodes(scope, operator, container)
    x = nodes.bend(mlp.out_activation_, nodes.outputs(mlp))
    nodes.add("Identity", x, result=operator.outputs[0].full_name)


def _convert_classifier(scope: Any, operator: Any, container: Any) -> None:
    mlp, nodes = operator.raw_operator, _Nodes(scope, operator, container)
    if len(mlp.classes_) < 2 and not mlp._multilabel:
        got = "a classifier of one class has no form here"
        raise InvalidValue(got, operation="to_onnx", hint="convert one of at least two classes")
    labels, probabilities = (output.full_name for output in operator.outputs)
    x = nodes.outputs(mlp)
    if mlp._multilabel:
        nodes.add("Sigmoid", x, result=probabilities)
        nodes.add("Cast", nodes.add("Greater", x, nodes.constant([0])), result=labels, to=INT64)
        return
    if mlp.out_activation_ == "softmax":
        nodes.add("Softmax", x, result=probabilities, axis=1)
    else:  # the other class by the sigmoid of -x: exact where 1 - p would be 0
        both = nodes.add("Sigmoid", nodes.add("Neg", x)), nodes.add("Sigmoid", x)
        nodes.add("Concat", *both, result=probabilities, axis=1)
    best = nodes.add("ArgMax", probabilities, axis=1, keepdims=0)
    whole = mlp.classes_.dtype.kind in "biuf"  # skl2onnx takes labels that are numbers for integers, and refuses others
    classes = mlp.classes_.astype(np.int64) if whole else np.array([str(one).encode() for one in mlp.classes_])
    known = nodes.constant(classes, INT64 if whole else STRING)
    found = nodes.add("ArrayFeatureExtractor", known, best)
    nodes.add("Reshape", found, nodes.constant([-1], INT64), result=labels)


def _regressor_shapes(operator: Any) -> None:
    from skl2onnx.common.shape_calculator import calculate_linear_regressor_output_shapes

    calculate_linear_regressor_output_shapes(operator)
    operator.outputs[0].type.shape[1] = operator.raw_operator.n_outputs_


def _classifier_shapes(operator: Any) -> None:
    from skl2onnx.common.data_types import Int64TensorType
    from skl2onnx.common.shape_calculator import calculate_linear_classifier_output_shapes

    calculate_linear_classifier_output_shapes(operator)
    mlp = operator.raw_operator
    if mlp._multilabel:
        rows = operator.inputs[0].get_first_dimension()
        operator.outputs[0].type = Int64TensorType([rows, mlp.n_outputs_])


def register() -> None:
    """Tell skl2onnx how to convert :class:`MLPRegressor` and :class:`MLPClassifier`, alone or at the end of pipelines.

    The import of this module does so, and that of :mod:`viva_tensor.export`. The model computes in the dtype of its
    input, float32 or float64. Classifiers of one class are refused. Needs ``pip install skl2onnx``.

    Raises
    ------
    ImportError
        If skl2onnx is not installed.

    Examples
    --------
    >>> import viva_tensor.export  # doctest: +SKIP
    >>> from skl2onnx import to_onnx  # doctest: +SKIP
    >>> model = to_onnx(pipeline, X[:1].astype(np.float32))  # doctest: +SKIP
    """
    from skl2onnx import update_registered_converter

    update_registered_converter(MLPRegressor, "VivaTensorMLPRegressor", _regressor_shapes, _convert_regressor)
    update_registered_converter(
        MLPClassifier,
        "VivaTensorMLPClassifier",
        _classifier_shapes,
        _convert_classifier,
        options={"zipmap": [True, False, "columns"], "output_class_labels": [False, True], "nocl": [True, False]},
    )


if find_spec("skl2onnx") is not None:
    register()
