"""Pipelines whose last step is a network, converted by skl2onnx and run by onnxruntime."""

import sys

import numpy as np
import pytest
from sklearn.compose import make_column_transformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from support.estimators import SHORT, fitted

from viva_tensor.error import InvalidValue
from viva_tensor.sklearn import MLPClassifier, MLPRegressor
from viva_tensor.sklearn.parameters import ACTIVATIONS

skl2onnx = pytest.importorskip("skl2onnx", reason="skl2onnx is not installed")
onnx = pytest.importorskip("onnx", reason="onnx is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
pytest.importorskip("viva_tensor.sklearn.onnx")


def run(model, X, **options):
    """What onnxruntime makes of rows."""
    written = skl2onnx.to_onnx(model, X[:1], **options)
    onnx.checker.check_model(written, full_check=True)  # shapes, too
    session = onnxruntime.InferenceSession(written.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: X})


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations(diabetes, activation):
    X, y = np.float32(3 * diabetes[0] + 1), diabetes[1]
    model = fitted(make_pipeline(StandardScaler(), MLPRegressor(**SHORT, activation=activation)), X, y)
    (found,) = run(model, X)
    np.testing.assert_allclose(found[:, 0], model.predict(X), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("activation", ["relu", "tanh", "logistic", "leaky_relu", "silu"])
def test_float64(diabetes, activation):
    X, y = diabetes
    model = fitted(MLPRegressor(**SHORT, activation=activation), X, y)
    (found,) = run(model, X)
    np.testing.assert_allclose(found[:, 0], model.predict(X), rtol=1e-12, atol=1e-12)


def test_counts_and_several_outputs(diabetes):
    X, y = np.float32(diabetes[0]), np.abs(diabetes[1])
    for model, target in (
        (MLPRegressor(**SHORT, loss="poisson"), y),
        (MLPRegressor(**SHORT), np.column_stack([y, -y, y**2])),
    ):
        fitted(model, X, target)
        (found,) = run(model, X)
        expected = model.predict(X).reshape(len(X), -1)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("data", ["wine", "cancer"])
@pytest.mark.parametrize("names", [None, [7, -2, 10**10], ["good", "poor", "fair"]])
def test_classes(request, data, names):
    X, y = request.getfixturevalue(data)
    X, y = np.float32(X), y if names is None else np.array(names)[y]
    scaler = make_column_transformer((StandardScaler(), [0, 2]), remainder="passthrough")
    model = fitted(make_pipeline(scaler, MLPClassifier(**SHORT | {"max_iter": 30})), X, y)
    labels, probabilities = run(model, X, options={"zipmap": False})
    np.testing.assert_array_equal(labels, model.predict(X))
    np.testing.assert_allclose(probabilities, model.predict_proba(X), atol=1e-5)
    assert len(np.unique(labels)) > 1


def test_refused(wine):
    X, y = np.float32(wine[0]), wine[1]
    one = fitted(MLPClassifier(**SHORT), X, 0 * y)
    with pytest.raises(InvalidValue, match="one class"):
        run(one, X)


def test_several_labels(wine):
    X, y = np.float32(wine[0]), np.eye(3, dtype=int)[wine[1]]
    model = fitted(MLPClassifier(**SHORT | {"max_iter": 30}), X, y)
    labels, probabilities = run(make_pipeline(model), X, options={"zipmap": False})
    np.testing.assert_array_equal(labels, model.predict(X))
    np.testing.assert_allclose(probabilities, model.predict_proba(X), atol=1e-5)
    assert 0 < labels.mean() < 1


def test_a_hint_for_those_who_have_not_imported_the_converters(diabetes, monkeypatch):
    model = fitted(MLPRegressor(**SHORT), *diabetes)
    monkeypatch.delitem(sys.modules, "viva_tensor.sklearn.onnx")
    with pytest.warns(UserWarning, match=r"import viva_tensor\.sklearn\.onnx before"):
        run(model, np.float32(diabetes[0]))
