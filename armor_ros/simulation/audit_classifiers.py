# SPDX-License-Identifier: Apache-2.0
"""The audit's trivial classifiers (scikit-learn), their cross-validation and their intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

Array = npt.NDArray[Any]
Flags = npt.NDArray[np.bool_]
Maker = Callable[[int, int], Any]
"""Makes an untrained classifier from the number of training samples and a seed."""

FOLDS = 5
_COMPONENTS = 40
_TREES = 100
_RESAMPLES = 1000
_LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Score:
    """
    How often a classifier is right on one split.

    ``accuracy`` is the mean of the rates on successes and on failures, so chance is 0.5 whatever
    their numbers; ``low`` and ``high`` bound it with 95 % by a bootstrap over the groups.
    ``plain_accuracy`` is the share of samples it got right, ``majority`` what always giving the
    more frequent label scores.
    """

    classifier: str
    accuracy: float
    low: float
    high: float
    plain_accuracy: float
    majority: float
    samples: int


def _logistic(samples: int, seed: int) -> Any:
    return LogisticRegression(C=0.3, class_weight='balanced', max_iter=3000)


def _forest(samples: int, seed: int) -> Any:
    return RandomForestClassifier(
        _TREES, min_samples_leaf=3, class_weight='balanced_subsample', random_state=seed
    )


def _linear(samples: int, seed: int) -> Any:
    return make_pipeline(StandardScaler(), _logistic(samples, seed))


def _components(samples: int, seed: int) -> Any:
    count = max(1, min(_COMPONENTS, samples // 8))
    return make_pipeline(StandardScaler(), PCA(count, random_state=seed))


def _words(samples: int, seed: int) -> Any:
    return CountVectorizer(ngram_range=(1, 2), token_pattern=r'[^\s]+')


NUMERIC: dict[str, Maker] = {'logistic regression': _linear, 'random forest': _forest}
PICTURE: dict[str, Maker] = {
    'logistic regression': lambda n, s: make_pipeline(_components(n, s), _logistic(n, s)),
    'random forest': lambda n, s: make_pipeline(_components(n, s), _forest(n, s)),
}
TEXT: dict[str, Maker] = {
    'logistic regression': lambda n, s: make_pipeline(_words(n, s), _logistic(n, s)),
    'naive Bayes': lambda n, s: make_pipeline(_words(n, s), MultinomialNB()),
}
MAKERS: dict[str, dict[str, Maker]] = {
    'metadata': NUMERIC,
    'first frame': PICTURE,
    'trajectory': NUMERIC,
    'instruction': TEXT,
}


def folds_possible(failed: Flags, groups: npt.NDArray[np.int64]) -> bool:
    """Tell whether each label has a group for every fold."""
    return all(len(np.unique(groups[failed == label])) >= FOLDS for label in (False, True))


def cross_validate(
    probe: str, features: Array, failed: Flags, groups: npt.NDArray[np.int64], seed: int
) -> list[Score]:
    """
    Return the score of each classifier of a probe, by five-fold cross-validation.

    No group is in two folds; the folds have nearly the same share of failures.
    """
    folds = list(
        StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed).split(
            features, failed, groups
        )
    )
    scores = []
    for name, make in MAKERS[probe].items():
        right = np.zeros(len(failed), dtype=np.bool_)
        for train, test in folds:
            classifier = make(len(train), seed).fit(features[train], failed[train])
            right[test] = classifier.predict(features[test]) == failed[test]
        scores.append(score(name, right, failed, groups, seed))
    return scores


def transfer(
    probe: str,
    features: Array,
    failed: Flags,
    groups: npt.NDArray[np.int64],
    train: Flags,
    tests: Mapping[str, Flags],
    seed: int,
) -> dict[str, list[Score]]:
    """Return the score on each of ``tests`` of each classifier of a probe that saw ``train``."""
    scores: dict[str, list[Score]] = {split: [] for split in tests}
    for name, make in MAKERS[probe].items() if tests else ():
        classifier = make(int(train.sum()), seed).fit(features[train], failed[train])
        for split, test in tests.items():
            right = classifier.predict(features[test]) == failed[test]
            scores[split].append(score(name, right, failed[test], groups[test], seed))
    return scores


def score(
    classifier: str, right: Flags, failed: Flags, groups: npt.NDArray[np.int64], seed: int
) -> Score:
    """Return the score of (N,) answers that were right or not."""
    _, index = np.unique(groups, return_inverse=True)
    count = int(index.max()) + 1
    # (labels, 2, groups): how many were right, and how many there are
    tallies = np.array(
        [
            [np.bincount(index, chosen & hits, count) for hits in (right, np.ones_like(right))]
            for chosen in (failed, ~failed)
        ]
    )
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(count, np.full(count, 1 / count), size=_RESAMPLES)
    drawn = tallies @ weights.T
    present = (drawn[:, 1] > 0).all(axis=0)
    resampled = (drawn[:, 0, present] / drawn[:, 1, present]).mean(axis=0)
    low, high = np.quantile(resampled, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    totals = tallies.sum(axis=2)
    return Score(
        classifier=classifier,
        accuracy=float((totals[:, 0] / totals[:, 1]).mean()),
        low=float(low),
        high=float(high),
        plain_accuracy=float(right.mean()),
        majority=float(max(failed.mean(), 1 - failed.mean())),
        samples=len(failed),
    )
