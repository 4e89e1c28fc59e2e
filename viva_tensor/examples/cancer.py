"""Tumours, malignant or benign, with scikit-learn's tools: a pipeline, cross-validation and a grid search.

The 569 cases come with scikit-learn (W. N. Street, W. H. Wolberg and O. L. Mangasarian, Nuclear feature extraction for
breast tumor diagnosis, IS&T/SPIE 1993).

    python -m viva_tensor.examples.cancer
"""

from viva_tensor.extras import extra

with extra("train"):
    import click
with extra("sklearn"):
    from sklearn.datasets import load_breast_cancer
    from sklearn.metrics import classification_report
    from sklearn.model_selection import GridSearchCV, train_test_split
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from viva_tensor.sklearn import MLPClassifier

FOLDS = 159  # at most: so many cases of the training are malignant, and each fold has one


def main(max_iter: int = 500, folds: int = 5) -> float:
    """Search, print the best parameters, and return the accuracy on test cases."""
    data = load_breast_cancer()
    X, X_test, y, y_test = train_test_split(data.data, data.target, random_state=0, stratify=data.target)
    network = MLPClassifier(hidden_layer_sizes=(32,), max_iter=max_iter, tol=1e-3, random_state=0)
    model = make_pipeline(StandardScaler(), network)
    grid = {"mlpclassifier__alpha": [1e-4, 1e-2], "mlpclassifier__activation": ["relu", "tanh"]}
    search = GridSearchCV(model, grid, cv=folds).fit(X, y)
    print(f"Best of {len(search.cv_results_['params'])}: {search.best_params_}, accuracy {search.best_score_:.3f}")
    print(classification_report(y_test, search.predict(X_test), target_names=data.target_names))
    return float(search.score(X_test, y_test))


@click.command(context_settings={"show_default": True})
@click.option("--max-iter", type=click.IntRange(min=1), default=500, help="Epochs at most.")
@click.option("--folds", type=click.IntRange(2, FOLDS), default=5, help="Folds of the cross-validation.")
def command(max_iter: int, folds: int) -> None:
    """Search for a network that tells tumours apart."""
    main(max_iter, folds)


if __name__ == "__main__":
    command()
