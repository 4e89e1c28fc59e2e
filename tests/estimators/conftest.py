"""Data sets of scikit-learn, standardised."""

import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine
from support.estimators import standardised


@pytest.fixture(scope="session")
def diabetes():
    X, y = standardised(load_diabetes)
    return X, (y - y.mean()) / y.std()


@pytest.fixture(scope="session")
def wine():
    return standardised(load_wine)


@pytest.fixture(scope="session")
def cancer():
    return standardised(load_breast_cancer)
