"""Rivals of another kind: the network stays as going on unchanged leaves it, and its last layer is retrained.

On one half of the validation split, by group (patient); the other half is left to choose by. For two classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imil_backend.loop.comparing.trainings.features import Arrays, LastLayer

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
_STRENGTHS = (1.0, 0.7, 0.3, 0.1, 0.07, 0.03, 0.01)  # inverse, of DFR's L1 penalty: those of its authors
_RETRAININGS = 10  # of DFR, on balanced draws; their weights are averaged
_MOST = 100  # images that SELF fine-tunes on
_STEPS, _BATCH, _RATE = 250, 32, 1e-3  # of SELF


@dataclass(frozen=True)
class Held:
    """The half of the validation split that is retrained on."""

    features: Floats  # (n, channels), standardised
    labels: Integers  # (n,)
    contradicts: NDArray[np.bool_]  # (n,) the planted marker tells the other class
    early: Floats  # (n, classes), probabilities of the intermediate network
    late: Floats  # (n, classes), of the final one
    weight: Floats  # (channels,) of the final one's last layer, class 1 against class 0
    bias: float


# To the weight (channels,) and the bias of class 1 against class 0.
Retrain = Callable[[Held, np.random.Generator], tuple[Floats, float]]


def dfr(held: Held, random: np.random.Generator) -> tuple[Floats, float]:
    """Deep feature reweighting: on as many images of each class with an agreeing and a contradicting marker.

    Kirichenko et al. 2023, "Last Layer Re-Training is Sufficient for Robustness to Spurious Correlations":
    logistic regression with an L1 penalty, chosen by the worst group of one half after training on the other.
    """
    kinds = 2 * held.labels + held.contradicts
    fold = np.zeros(len(kinds), bool)
    for kind in np.unique(kinds):
        own = random.permutation(np.flatnonzero(kinds == kind))
        fold[own[: len(own) // 2]] = True

    def worst(strength: float) -> float:
        weight, bias = _balanced(held, kinds, fold, strength, random)
        right = (held.features @ weight + bias > 0) == held.labels
        return min(float(right[~fold & (kinds == kind)].mean()) for kind in np.unique(kinds[~fold]))

    tunable = min(np.bincount(kinds)[np.unique(kinds)]) > 1
    best = max(_STRENGTHS, key=worst) if tunable else _STRENGTHS[0]
    every = [_balanced(held, kinds, np.ones(len(kinds), bool), best, random) for _ in range(_RETRAININGS)]
    return np.mean([weight for weight, _ in every], axis=0), float(np.mean([bias for _, bias in every]))


def self_(held: Held, random: np.random.Generator) -> tuple[Floats, float]:
    """Selective last-layer finetuning, by disagreement with the early-stopped network; no groups are needed.

    LaBonte et al. 2023, "Towards Last-Layer Retraining for Group Robustness with Fewer Annotations": as many
    images of each class, those with the highest KL divergence of late from early predictions.
    """
    from sklearn.linear_model import SGDClassifier

    divergence = (held.late * np.log((held.late + 1e-12) / (held.early + 1e-12))).sum(axis=1)
    by_class = [np.flatnonzero(held.labels == label) for label in (0, 1)]
    count = min(_MOST // 2, *(max(1, len(own) // 2) for own in by_class))
    chosen = np.concatenate([own[np.argsort(-divergence[own], kind="stable")[:count]] for own in by_class])
    tuned = SGDClassifier(
        loss="log_loss",
        learning_rate="constant",
        eta0=_RATE,
        max_iter=max(1, round(_STEPS * _BATCH / len(chosen))),
        tol=None,
        random_state=int(random.integers(2**31)),
    )
    tuned.fit(
        held.features[chosen], held.labels[chosen], coef_init=held.weight[None], intercept_init=[held.bias]
    )
    return np.asarray(tuned.coef_[0], np.float64), float(tuned.intercept_[0])


def _balanced(
    held: Held, kinds: Integers, among: NDArray[np.bool_], strength: float, random: np.random.Generator
) -> tuple[Floats, float]:
    """One logistic regression on as many of each kind."""
    from sklearn.linear_model import LogisticRegression

    places = [np.flatnonzero(among & (kinds == kind)) for kind in np.unique(kinds[among])]
    count = min(len(own) for own in places)
    drawn = np.concatenate([random.permutation(own)[:count] for own in places])
    # How an L1 penalty is asked for differs since scikit-learn 1.8.
    older = signature(LogisticRegression).parameters["l1_ratio"].default is None
    l1: dict[str, Any] = {"penalty": "l1"} if older else {"l1_ratio": 1.0}
    fitted = LogisticRegression(
        C=strength, solver="liblinear", random_state=int(random.integers(2**31)), **l1
    )
    fitted.fit(held.features[drawn], held.labels[drawn])
    return np.asarray(fitted.coef_[0], np.float64), float(fitted.intercept_[0])


def retrained(
    arrays: Arrays,
    predictions: Mapping[str, Any],
    contradicting: frozenset[str],
    retrain: Retrain,
    seed: int,
) -> tuple[dict[str, Any], LastLayer]:
    """Another last layer, and `predictions.json` with it: the test split, and the half not retrained on.

    Args:
        arrays: as of `embedded`.
        predictions: of the network as it is.
        contradicting: keys whose marker tells another class.
        retrain: how.
        seed: of the halves and of what is drawn.
    """
    random = np.random.default_rng(seed)
    validation = predictions["validation"]
    used = _half(validation["groups"], random)
    features = {split: arrays[f"{split}_features"].astype(np.float64) for split in ("validation", "test")}
    mean, deviation = features["validation"][used].mean(axis=0), features["validation"][used].std(axis=0)
    deviation[deviation == 0] = 1
    scaled = {split: (each - mean) / deviation for split, each in features.items()}
    weight = (arrays["weight"][1] - arrays["weight"][0]).astype(np.float64)
    held = Held(
        scaled["validation"][used],
        np.array(validation["labels"], np.int64)[used],
        np.array([key in contradicting for key in validation["keys"]])[used],
        arrays["early"][used].astype(np.float64),
        np.array(validation["probabilities"], np.float64)[used],
        weight * deviation,
        float(arrays["bias"][1] - arrays["bias"][0] + weight @ mean),
    )
    tuned, bias = retrain(held, random)
    answered = {
        split: _part(predictions[split], scaled[split] @ tuned + bias, keep)
        for split, keep in (("validation", ~used), ("test", np.ones(len(scaled["test"]), bool)))
    }
    of_features = tuned / deviation
    layer = LastLayer(
        np.stack([np.zeros_like(of_features), of_features]), np.array([0.0, bias - of_features @ mean])
    )
    return answered, layer


def _half(groups: Sequence[str], random: np.random.Generator) -> NDArray[np.bool_]:
    names = sorted(set(groups))
    chosen = {names[place] for place in random.permutation(len(names))[: len(names) // 2]}
    return np.array([group in chosen for group in groups])


def _part(split: Mapping[str, Any], logits: Floats, keep: NDArray[np.bool_]) -> dict[str, Any]:
    scores = 1 / (1 + np.exp(-logits[keep]))
    kept = np.flatnonzero(keep).tolist()
    return {
        **{name: [split[name][place] for place in kept] for name in ("keys", "groups", "labels")},
        "probabilities": np.stack([1 - scores, scores], axis=1).tolist(),
    }


RETRAININGS: dict[str, Retrain] = {"dfr": dfr, "self": self_}
