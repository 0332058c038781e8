"""Answers and runs of networks that were never trained, for the tests of comparisons."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from imil_backend.loop.comparing.runs import Predictions, Run, Setting
from imil_backend.loop.comparing.statistics.measures import Answers

PLANTED = Setting("films", "letter", 0.9, 0.04, "mispredicted")


def some_predictions(
    skill: float,
    *,
    seed: int = 0,
    samples: int = 120,
    classes: int = 2,
    leaning: float | None = 0.0,
    split: int = 0,
) -> Predictions:
    """Noisy predictions; two samples a patient, every third one's marker contradicts.

    Args:
        skill: Logit by which the right class is above the others.
        seed: Of the noise.
        samples: How many.
        classes: How many.
        leaning: Logit by which the class that the marker tells is above the others; None: there is none.
        split: Another one has other labels and patients.
    """
    random, labels = np.random.default_rng([seed, samples]), np.arange(samples) % 7 % classes
    labels = np.roll(labels, split)
    logits = random.normal(0, 1, (samples, classes))
    rows = np.arange(samples)
    logits[rows, labels] += skill
    against = rows % 3 == 0
    if leaning is not None:
        logits[rows, np.where(against, (labels + 1) % classes, labels)] += leaning
    exponentials = np.exp(logits)
    keys = [f"{split}-{row:04}.png" for row in rows]
    return Predictions.of(
        {
            "keys": keys,
            "labels": labels,
            "groups": [f"patient {split}-{row // 2}" for row in rows],
            "probabilities": (exponentials / exponentials.sum(axis=1, keepdims=True)).round(6),
            "exchanged": some_exchanged(keys, skill, seed),
        },
        None
        if leaning is None
        else {key for key, is_against in zip(keys, against, strict=True) if is_against},
    )


def some_exchanged(keys: Sequence[str], skill: float, seed: int) -> dict[str, tuple[float, float]]:
    """Of the shortcut test, with four draws; every fifth sample was not tested."""
    random = np.random.default_rng([seed, len(keys), 1])
    right = random.binomial(4, (0.9, 0.4 + 0.1 * skill), (len(keys), 2)) / 4
    return {
        key: (same, other) for key, (same, other) in zip(keys, right.tolist(), strict=True) if key[-5] != "3"
    }


def some_run(arm: str, seed: int, skill: float, setting: Setting = PLANTED, leaning: float = 0.0) -> Run:
    """A run of two classes; the leaning on the marker shows where the setting has one."""
    told = None if setting.marker is None else leaning
    noise = abs(hash_of(arm)) % 1000 + 1000 * seed
    return Run(
        setting,
        arm,
        seed,
        seconds=60.0,
        best_epoch=3,
        protocol="ab" * 32,
        validation=some_predictions(skill, seed=noise + 1, samples=60, leaning=told),
        test=some_predictions(skill, seed=noise, leaning=told),
        painted_images=0 if arm == "unchanged" else 32,
    )


def hash_of(text: str) -> int:
    """The same in every process."""
    return sum(ord(letter) * 31**place for place, letter in enumerate(text))


def answers_to(predictions: Predictions) -> Answers:
    """Answers whose patients are numbered from 0."""
    told = predictions.contradicting
    return Answers(
        predictions.labels,
        predictions.probabilities,
        np.unique(predictions.groups, return_inverse=True)[1].astype(np.int64),
        None if told is None else np.array([key in told for key in predictions.keys]),
    )


def twice(answers: Answers, chosen: Sequence[int]) -> Answers:
    """The answers with all samples of some patients once more."""
    places = np.append(np.arange(len(answers.labels)), np.flatnonzero(np.isin(answers.patients, chosen)))
    assert answers.contradicting is not None
    return Answers(
        answers.labels[places],
        answers.probabilities[places],
        answers.patients[places],
        answers.contradicting[places],
        answers.threshold,
        None if answers.exchanged is None else answers.exchanged[places],
    )
