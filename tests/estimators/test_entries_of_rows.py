"""Sparse rows are learned from by their entries: as from the dense ones, and without making them dense."""

import copy
import pickle
import tracemalloc

import numpy as np
import pytest
import sklearn
from scipy import sparse
from sklearn import neural_network
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.utils.fixes import parse_version
from support.estimators import SHORT, assert_same_course, both_fitted, fitted

from viva_tensor import kernels, optim
from viva_tensor.sklearn import MLPClassifier, MLPRegressor
from viva_tensor.sklearn import batches as batches_module
from viva_tensor.sklearn.batches import batches_of, padded
from viva_tensor.sklearn.rows import Rows

ROWS, FEATURES = 230, 100


def even(rng):
    """As many entries in each row, as a coder of categories gives."""
    indices = np.argsort(rng.random((ROWS, FEATURES)), axis=1)[:, :5]
    return sparse.csr_array((rng.standard_normal(ROWS * 5), indices.ravel(), np.arange(ROWS + 1) * 5))


def uneven(rng):
    """Rows of 0 to 9 entries, of which some are 0 and some of the same feature, in no order; and a row of 60."""
    counts = rng.integers(0, 10, ROWS)
    counts[17] = 60
    ends = np.append(0, counts.cumsum())
    indices = rng.integers(0, FEATURES, ends[-1])
    return sparse.csr_array((rng.integers(-2, 3, ends[-1]) / 2, indices, ends), shape=(ROWS, FEATURES))


@pytest.fixture(name="X", params=[even, uneven], ids=["even", "uneven"])
def of_few_entries(request, rng):
    return request.param(rng)


@pytest.fixture
def targets(X, rng):
    learned = X @ rng.standard_normal((FEATURES, 3))
    return {
        "numbers": learned[:, 0],
        "several": learned,
        "two classes": learned[:, 0] > 0,
        "classes": np.array(["a", "b", "c"])[learned.argmax(axis=1)],
        "labels": (learned > 0).astype(int),
    }


@pytest.fixture
def never_dense(monkeypatch):
    def refused(*_, **__):
        raise AssertionError("sparse rows were made dense")

    for kind in (sparse.csr_array, sparse.csr_matrix, sparse.csc_array, sparse.csc_matrix):
        for name in ("toarray", "todense"):
            monkeypatch.setattr(kind, name, refused)


def estimator(target, parameters):
    kind = MLPRegressor if target in ("numbers", "several") else MLPClassifier
    return kind(**SHORT | {"batch_size": 40, "alpha": 0.01} | parameters)


PARAMETERS = {
    "adam": {},
    "in order": {"shuffle": False},
    "sgd": {"solver": "sgd", "learning_rate": "invscaling"},
    "adaptive": {"solver": "sgd", "learning_rate": "adaptive", "tol": 0.1, "n_iter_no_change": 1, "max_iter": 12},
    "no hidden layer": {"hidden_layer_sizes": ()},
    "one hidden layer": {"hidden_layer_sizes": (7,), "activation": "tanh"},
    "early stopping": {"early_stopping": True},
    "lbfgs": {"solver": "lbfgs"},
}


@pytest.mark.parametrize("parameters", PARAMETERS.values(), ids=PARAMETERS)
@pytest.mark.parametrize("target", ["numbers", "several", "two classes", "classes", "labels"])
def test_as_from_dense_rows(X, targets, target, parameters):
    weight = np.arange(ROWS) % 3 + 0.5 if target in ("several", "two classes", "classes") else None
    y = targets[target]
    model = estimator(target, parameters)
    ours, dense = (fitted(copy.deepcopy(model), rows, y, weight) for rows in (X, X.toarray()))
    for a, b in zip((*ours.coefs_, *ours.intercepts_), (*dense.coefs_, *dense.intercepts_), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-8)
        assert a.flags.c_contiguous
    assert ours.loss_ == pytest.approx(dense.loss_, rel=1e-9)
    for name in ("predict", "predict_proba"):
        if hasattr(ours, name):
            found, wanted = (getattr(ours, name)(rows) for rows in (X, X.toarray()))
            np.testing.assert_array_equal(found, wanted) if found.dtype.kind in "US" else np.testing.assert_allclose(
                found, wanted, rtol=1e-9, atol=1e-12
            )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["adam", "sgd", "one hidden layer", "early stopping"])
def test_the_course_of_scikit_learn(X, targets, name, dtype):
    classes = targets["classes"]
    if parse_version(sklearn.__version__) < parse_version("1.9"):  # its early stopping failed with text
        classes = np.unique(classes, return_inverse=True)[1]
    for kind, target in ((MLPRegressor, targets["numbers"]), (MLPClassifier, classes)):
        ours, theirs = both_fitted(kind, PARAMETERS[name], X.astype(dtype), target)
        assert_same_course(ours, theirs)


@pytest.mark.parametrize(
    "more",
    [
        {"dropout": 0.3},
        {"dropout": 0.3, "hidden_layer_sizes": (16, 8, 4)},
        {"solver": optim.AdamW(lr=0.01, weight_decay=0.1)},
        {"solver": optim.SGD(lr=0.01, momentum=0.9, clip_norm=0.5)},
        {"solver": optim.RMSprop(lr=0.001)},
        {"solver": optim.Lion(lr=0.001)},
        {"activation": "gelu"},
    ],
    ids=str,
)
def test_what_scikit_learn_has_not(X, targets, more):
    model = estimator("several", more)
    ours, dense = (fitted(copy.deepcopy(model), rows, targets["several"]) for rows in (X, X.toarray()))
    for a, b in zip(ours.coefs_, dense.coefs_, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("parameters", [*PARAMETERS.values()], ids=[*PARAMETERS])
def test_they_are_never_dense(X, targets, parameters, never_dense):
    for form in (sparse.csr_array, sparse.csr_matrix, sparse.csc_matrix):
        rows = form(X)
        model = fitted(estimator("classes", parameters), rows, targets["classes"])
        model.predict(rows)
        model.predict_proba(rows)
    if parameters.get("solver") != "lbfgs" and "early_stopping" not in parameters:
        model.partial_fit(rows, targets["classes"])


def test_validation_data_are_never_dense(X, targets, never_dense):
    y = targets["numbers"]
    model = estimator("numbers", {"early_stopping": True, "scoring": "r2"})
    with pytest.warns(ConvergenceWarning):
        model.fit(X[:200], y[:200], validation_data=(X[200:], y[200:]))
    assert len(model.validation_scores_) == SHORT["max_iter"]


@pytest.mark.parametrize("dtype", ["bool", "int8", "int64", "uint16"])
def test_whole_numbers_and_booleans(rng, dtype, never_dense):
    whole = sparse.csr_array((rng.random((ROWS, FEATURES)) < 0.1).astype(dtype) * rng.integers(1, 4, (ROWS, FEATURES)))
    whole, y = whole.astype(dtype), rng.standard_normal(ROWS)
    model, same = (fitted(estimator("numbers", {}), rows, y) for rows in (whole, whole.astype(float)))
    np.testing.assert_array_equal(model.coefs_[0], same.coefs_[0])
    np.testing.assert_array_equal(model.predict(whole), same.predict(whole.astype(float)))
    assert model.coefs_[0].dtype == np.float64


def test_one_hot_encoders_give_them(rng, never_dense):
    table = rng.integers(0, 12, (300, 4))
    y = (table == 3).sum(axis=1)
    theirs, ours = (
        fitted(make_pipeline(OneHotEncoder(), kind(**SHORT)), table, y).predict(table)
        for kind in (neural_network.MLPRegressor, MLPRegressor)
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_partial_fit_goes_on_between_sparse_and_dense_rows(X, targets, solver):
    y, forms = targets["several"], [X, X.toarray(), X.toarray(), X, X]
    mixed, dense = (estimator("several", {"solver": solver, "shuffle": False}) for _ in range(2))
    for rows in forms:
        mixed.partial_fit(rows, y)
        mixed = pickle.loads(pickle.dumps(mixed))
        dense.partial_fit(X.toarray(), y)
    for a, b in zip(mixed.coefs_, dense.coefs_, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-9)


def test_the_same_bits_on_any_number_of_threads(X, targets):
    found = []
    for threads in (1, 2, 3):
        with kernels.num_threads(threads):
            found.append(fitted(estimator("classes", {"hidden_layer_sizes": (70, 9)}), X, targets["classes"]).coefs_)
    for others in found[1:]:
        for one, other in zip(found[0], others, strict=True):
            np.testing.assert_array_equal(one, other)


def test_weights_that_are_lost_end_the_training(X, targets):
    model = estimator("numbers", {"solver": "sgd", "learning_rate_init": 1e200, "max_iter": 50})
    with pytest.raises(ValueError, match="non-finite parameter weights"), np.errstate(all="ignore"):
        fitted(model, X, targets["numbers"])
    assert model.n_iter_ < 50


def wide(rng, counts):
    """Rows of so many entries of 20,000 features."""
    ends = np.append(0, np.cumsum(counts))
    indices = rng.integers(0, 20_000, ends[-1])
    return sparse.csr_array((np.ones(ends[-1], np.float32), indices, ends), shape=(len(counts), 20_000))


def peak_of(work):
    """Bytes that Python and NumPy held at most during some work."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("most", "others"), [(10, 10), (28, 9), (105, 5)], ids=["even", "nearly even", "uneven"]
)  # some 10 on average
def test_memory_of_a_wide_matrix(rng, most, others, never_dense):
    X, y = wide(rng, np.where(rng.random(200_000) < 0.05, most, others)), rng.random(200_000)
    model = MLPRegressor(hidden_layer_sizes=(2,), max_iter=1, batch_size=2000, early_stopping=True)
    peak = peak_of(lambda: fitted(model, X, y).predict(X))
    assert peak < 150e6  # 16 GB if it were dense, and 160 MB for a batch


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_memory_of_a_full_row_among_empty_ones(rng, solver, never_dense):
    counts = np.where(rng.random(100_000) < 0.05, 3, 0)
    counts[50_000] = 20_000
    X, y = wide(rng, counts), np.arange(100_000) % 2
    model = MLPClassifier(hidden_layer_sizes=(2,), max_iter=1, solver=solver)
    peak = peak_of(lambda: fitted(model, X, y).predict(X))
    assert peak < 100e6  # 8 GB if it were dense; 33 MB for the batch with the full row
    assert np.isfinite(model.coefs_[0]).all()


@pytest.mark.parametrize("shuffle", [True, False])
def test_an_epoch_in_several_stretches_is_the_same(rng, monkeypatch, shuffle):
    X, y = even(rng), rng.standard_normal(ROWS)
    models = []
    for size in (1 << 22, 22_400):
        monkeypatch.setattr(batches_module, "LAID_OUT_BYTES", size)
        models.append(fitted(MLPRegressor(**SHORT, batch_size=40, shuffle=shuffle), X, y))
    np.testing.assert_array_equal(models[0].coefs_[0], models[1].coefs_[0])
    np.testing.assert_allclose(models[0].loss_curve_, models[1].loss_curve_, rtol=1e-14)


def test_a_large_first_batch_is_recorded_by_one_entry_of_each_row(rng, monkeypatch):
    X, y = uneven(rng), rng.standard_normal(ROWS)
    models = []
    for size in (1 << 22, 100):
        monkeypatch.setattr(batches_module, "LAID_OUT_BYTES", size)
        assert (batches_of(Rows(X, y), 40, True).first()[0].indices.shape[1] == 1) == (size == 100)
        models.append(fitted(MLPRegressor(**SHORT, batch_size=40), X, y))
    np.testing.assert_array_equal(models[0].coefs_[0], models[1].coefs_[0])


class TestChoice:
    def of(self, X, size=40, shuffled=False):
        return batches_of(Rows(X, np.zeros(X.shape[0])), size, shuffled)

    def test_dense_rows_and_full_batches_are_dense(self, rng):
        full = sparse.csr_array(rng.standard_normal((ROWS, FEATURES)))
        for X in (full.toarray(), full):
            batches = self.of(X)
            assert not batches.by_entries
            np.testing.assert_array_equal(batches(slice(3, 9))[0], full.toarray()[3:9])
            assert batches.stretch == (0 if sparse.issparse(X) else ROWS)

    def test_a_row_of_many_entries_counts_for_its_batch_alone(self, rng):
        X = uneven(rng)
        assert self.of(X).by_entries
        assert not self.of(X, size=ROWS).by_entries

    def test_full_rows_that_come_together_are_shuffled_into_all_batches(self, rng):
        counts = np.where(np.arange(ROWS) < 40, FEATURES, 1)
        X = sparse.csr_array(
            (np.ones(counts.sum()), np.concatenate([np.arange(n) for n in counts]), [0, *counts.cumsum()])
        )
        assert self.of(X).by_entries
        assert not self.of(X, shuffled=True).by_entries

    def test_many_batches_of_rows_with_about_as_many_entries_are_laid_out_at_once(self, rng, monkeypatch):
        monkeypatch.setattr(batches_module, "LAID_OUT_BYTES", 3.5 * 40 * 5 * 2 * 8)  # an index and a value of 8 bytes
        for make, stretch in ((even, 3 * 40), (uneven, 0)):
            X = make(rng)
            batches = self.of(X)
            assert batches.stretch == stretch
            indices, values, target = batches(np.array([3, 17, 5]))
            assert target.shape == (3,)
            dense = np.zeros((3, FEATURES))
            np.add.at(dense, (np.arange(3)[:, None], indices.astype(int)), values)
            np.testing.assert_allclose(dense, X.toarray()[[3, 17, 5]], rtol=1e-15)

    def test_they_are_up_to_three_places_for_each_entry(self, rng):
        for most, many in ((30, True), (32, False)):
            X = wide(rng, [most, *[10] * 200, 20 - most // 2, 20 - (most + 1) // 2])  # 10 on average
            assert (self.of(X).stretch > 0) == many

    def test_more_features_than_float32_has_indices_for(self):
        X = sparse.csr_array((np.ones(2, np.float32), [0, 1 << 24], [0, 1, 2]), shape=(2, (1 << 24) + 1))
        assert not self.of(X).by_entries
        assert self.of(X[:, :-1]).by_entries

    def test_rows_of_zeros(self):
        assert self.of(sparse.csr_array((50, 8))).by_entries
        assert self.of(sparse.csr_array((50, 3))).by_entries is False


def test_there_are_few_widths_of_batches():
    widths = set()
    for entries in range(1, 257):
        X = sparse.csr_array((np.ones(entries), np.arange(entries), [0, entries, entries]))
        indices, values = padded(X)
        assert indices.shape == values.shape
        assert entries <= indices.shape[1] <= max(1.25 * entries, 1)
        assert values.sum() == entries
        widths.add(indices.shape[1])
    assert len(widths) < 30
