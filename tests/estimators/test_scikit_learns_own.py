"""The tests that scikit-learn has for estimators and for its own networks."""

import re
import subprocess
import sys
import warnings
from importlib.resources import files
from xml.etree import ElementTree

import numpy as np
import pytest
import sklearn
from sklearn import config_context
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import (
    check_dataframe_column_names_consistency,
    check_param_validation,
    parametrize_with_checks,
)
from sklearn.utils.fixes import parse_version
from support.estimators import SHORT, fitted

from viva_tensor.sklearn import MLPClassifier, MLPRegressor

IMPORT = "from sklearn.neural_network import MLPClassifier, MLPRegressor\n"
DIFFERENT: dict[str, str] = {}  # tests that may fail, with the reason


def expected_failures(estimator):
    if estimator.solver != "lbfgs" or isinstance(estimator, MLPRegressor):
        return {}
    return {
        "check_classifiers_multilabel_output_format_predict_proba": "probabilities round to 1, also scikit-learn's",
    }


@pytest.mark.filterwarnings("ignore")  # the suite provokes warnings and tests for those that matter itself
@parametrize_with_checks(
    [MLPRegressor(), MLPClassifier(), MLPRegressor(solver="lbfgs"), MLPClassifier(solver="lbfgs")],
    expected_failed_checks=expected_failures,
)
def test_suite_of_scikit_learn(estimator, check):
    check(estimator)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("parameters", [{}, {"early_stopping": True, "n_iter_no_change": 1}])
@pytest.mark.parametrize("kind", [MLPRegressor, MLPClassifier])
@pytest.mark.parametrize("check", [check_param_validation, check_dataframe_column_names_consistency])
def test_checks_of_scikit_learns_own_estimators(check, kind, parameters):
    check(kind.__name__, kind(**parameters))


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """What became of each test that scikit-learn has for its networks, run on ours: None, or why it failed."""
    own = files("sklearn.neural_network") / "tests" / "test_mlp.py"
    if not own.is_file():
        pytest.skip("scikit-learn is installed without its tests")
    source = own.read_text(encoding="utf-8")
    assert source.count(IMPORT) == 1
    folder = tmp_path_factory.mktemp("own")
    (folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")  # none of this repository's settings
    changed = source.replace(IMPORT, IMPORT.replace("sklearn.neural_network", "viva_tensor.sklearn"))
    (folder / "test_of_scikit_learn.py").write_text(changed, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "sklearn.conftest", "--junit-xml=outcomes.xml"]
    done = subprocess.run(
        [*command, "test_of_scikit_learn.py"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    cases = ElementTree.parse(folder / "outcomes.xml").iter("testcase")
    return {case.get("name"): why_failed(case) for case in cases}


def why_failed(case):
    fault = next((case.find(kind) for kind in ("failure", "error") if case.find(kind) is not None), None)
    return None if fault is None else f"{fault.get('message')}\n{fault.text}"


def test_scikit_learns_own_tests_of_its_networks_pass(outcomes):
    failed = {name: why for name, why in outcomes.items() if why is not None and name not in DIFFERENT}
    assert not failed, "\n\n".join(f"{name}: {why}" for name, why in failed.items())


def test_what_may_fail_does(outcomes):
    assert {name for name in DIFFERENT if outcomes.get(name) is None} == set()


def test_all_of_scikit_learns_tests_were_run(outcomes):
    source = (files("sklearn.neural_network") / "tests" / "test_mlp.py").read_text(encoding="utf-8")
    assert {name.partition("[")[0] for name in outcomes} == set(re.findall(r"^def (test_\w+)", source, re.MULTILINE))


@pytest.mark.skipif(
    parse_version(sklearn.__version__) < parse_version("1.8"), reason="1.7 routes none to its pipelines"
)
def test_weights_of_rows_are_routed(diabetes):
    """Through a search and a pipeline, to fits and scores."""
    X, y = diabetes
    weight = np.arange(len(X)) % 3 + 0.5
    with config_context(enable_metadata_routing=True):
        network = MLPRegressor(**SHORT).set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        search = GridSearchCV(
            make_pipeline(scaler, network), {"mlpregressor__alpha": [0.1]}, cv=[(range(300), range(300, 442))]
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            search.fit(X, y, sample_weight=weight)
    scaler = StandardScaler().fit(X[:300])
    alone = fitted(MLPRegressor(**SHORT, alpha=0.1), scaler.transform(X[:300]), y[:300], weight[:300])
    expected = alone.score(scaler.transform(X[300:]), y[300:], weight[300:])
    assert search.cv_results_["mean_test_score"][0] == pytest.approx(expected, rel=1e-12)
    without = alone.score(scaler.transform(X[300:]), y[300:])
    assert expected != pytest.approx(without, rel=1e-4)
