"""The callbacks that scikit-learn has since 1.9 are told of fits and their epochs."""

import numpy as np
import pytest
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from support.estimators import SHORT, fitted

from viva_tensor import optim
from viva_tensor.sklearn import MLPClassifier, MLPRegressor

callback = pytest.importorskip("sklearn.callback", reason="callbacks came with scikit-learn 1.9")
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


class Listener:
    """Notes what it is told, and stops training after some epochs."""

    def __init__(self, last=100):
        self.told, self.fitted, self.last = [], [], last

    def setup(self, estimator, context):
        self.told.append("setup")

    def teardown(self, estimator, context):
        self.told.append("teardown")

    def on_fit_task_begin(self, estimator, context):
        self.told.append(f"{context.task_name} begins")

    def on_fit_task_end(self, estimator, context, *, X, y, metadata, fitted_estimator):
        self.told.append(f"{context.task_name} ends")
        if context.task_name == "epoch" and fitted_estimator is not None:
            self.fitted.append((fitted_estimator.score(X, y), metadata))
            return len(self.fitted) == self.last
        return None


@pytest.mark.parametrize("solver", ["adam", optim.AdamW(lr=0.01)])
def test_each_epoch_begins_and_ends(diabetes, solver):
    listener = Listener()
    model = fitted(MLPRegressor(**SHORT, solver=solver).set_callbacks(listener), *diabetes)
    assert listener.told == ["setup", "fit begins", *["epoch begins", "epoch ends"] * 5, "fit ends", "teardown"]
    assert listener.fitted[-1] == (pytest.approx(model.score(*diabetes), rel=1e-12), None)
    assert len({score for score, _ in listener.fitted}) == 5


def test_steps_of_lbfgs(diabetes):
    listener = Listener()
    model = fitted(MLPRegressor(**SHORT, solver="lbfgs").set_callbacks(listener), *diabetes)
    assert listener.told.count("epoch begins") == listener.told.count("epoch ends")
    assert len(listener.fitted) == 5
    assert listener.fitted[-1][0] == pytest.approx(model.score(*diabetes), rel=1e-12)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.filterwarnings("error")
def test_one_may_stop_training(diabetes, solver):
    model = MLPRegressor(**SHORT, solver=solver).set_callbacks(Listener(last=2)).fit(*diabetes)
    assert model.n_iter_ == 2


def test_weights_of_rows_are_told(diabetes):
    listener = Listener()
    weight = np.ones(len(diabetes[1]))
    fitted(MLPRegressor(**SHORT).set_callbacks(listener), *diabetes, weight)
    assert listener.fitted[0][1]["sample_weight"] is weight


def test_torn_down_after_an_error(wine):
    listener = Listener()
    model = MLPClassifier(**SHORT, scoring=lambda *_: "good", early_stopping=True).set_callbacks(listener)
    with pytest.raises(ValueError, match="wanted a number"):
        model.fit(*wine)
    assert listener.told[-1] == "teardown"


def test_scores_of_a_search_over_pipelines(diabetes):
    monitor = callback.ScoringMonitor(scoring="r2")
    model = MLPRegressor(**SHORT).set_callbacks(monitor)
    fitted(model, *diabetes)
    scores = [row["r2"] for row in monitor.get_logs().data if row["task_name"] == "epoch"]
    assert scores[-1] == pytest.approx(r2_score(diabetes[1], model.predict(diabetes[0])), rel=1e-12)
    listener = Listener()
    network = MLPRegressor(**SHORT).set_callbacks(listener)
    fitted(GridSearchCV(make_pipeline(StandardScaler(), network), {"mlpregressor__alpha": [0.1]}, cv=2), *diabetes)
    assert listener.told.count("epoch ends") == 15


def test_progress_bar(diabetes, capsys):
    pytest.importorskip("rich", reason="scikit-learn's progress bar is drawn by rich")
    plain = fitted(MLPRegressor(**SHORT), *diabetes)
    shown = fitted(MLPRegressor(**SHORT).set_callbacks(callback.ProgressBar()), *diabetes)
    assert shown.loss_curve_ == plain.loss_curve_
    assert "MLPRegressor" in capsys.readouterr().out
