"""Finds the training samples that a network gets wrong, and records each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pkgutil import resolve_name
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imil_backend.errors import DatasetError
from imil_backend.learning.child.context import Context
from imil_backend.learning.child.ending.surroundings import ask_surroundings
from imil_backend.learning.child.state.kept import kept_array
from imil_backend.learning.child.state.learner import Learner
from imil_backend.learning.child.state.starting_point import fresh_learner
from imil_backend.learning.child.state.state import TrainingState
from imil_backend.learning.child.steps.asking import ask
from imil_backend.learning.child.steps.epoch import train_epoch
from imil_backend.learning.contract.training_job import MINING, Recipe
from imil_backend.learning.inference.prediction import predict_split
from imil_backend.learning.inputs.data import SampleSet
from imil_backend.learning.scoring.metrics import margins, softmax
from imil_backend.learning.scoring.ranking import likely_label_errors

Logits = NDArray[np.float32]  # (samples, classes)
Margins = Sequence[NDArray[np.float32]]  # (samples,) of each epoch
# Gives the logits of the training split, in every process, and the margins of later epochs, by which labels
# are doubted. It is called at the end of a training, with the best epoch's network.
Miner = Callable[[Context, Learner, TrainingState], tuple[Logits, Margins]]


def mine(context: Context, learner: Learner, state: TrainingState) -> list[dict[str, Any]]:
    """The records of the training split, by the recipe's way of mining."""
    miner: Miner = resolve_name(MINING[context.recipe.mining])
    logits, later_margins = miner(context, learner, state)
    variety = kept_array(context, "surroundings", lambda: ask_surroundings(context, learner))
    return mining_records(context.split("train"), logits, later_margins, variety)


def mining_epoch(recipe: Recipe, state: TrainingState) -> int:
    """The end of a training's own first `mining_epoch` epochs, wherever it went on from."""
    return min(state.first_epoch + recipe.mining_epoch, recipe.epochs)


def ask_intermediate(context: Context, _learner: Learner, state: TrainingState) -> tuple[Logits, Margins]:
    """The network as it was at the mining epoch, where it was asked."""
    assert state.mined is not None  # noqa: S101  # kept at the mining epoch
    return state.mined, state.margins[mining_epoch(context.recipe, state) - state.first_epoch :]


def ask_out_of_fold(context: Context, _learner: Learner, state: TrainingState) -> tuple[Logits, Margins]:
    """Networks that were not trained on the sample."""
    return out_of_fold_logits(context, lambda: fresh_learner(context)), state.margins


def ask_final(context: Context, learner: Learner, state: TrainingState) -> tuple[Logits, Margins]:
    """The network of the best epoch."""
    context.reporter.begin("mining", len(context.split("train")))
    return kept_array(context, "final", lambda: ask(context, learner, "train")), state.margins


def mining_records(
    samples: SampleSet,
    logits: NDArray[np.float32],
    later_margins: Sequence[NDArray[np.float32]],
    variety: NDArray[np.int64],
) -> list[dict[str, Any]]:
    """One record a training sample, in their order: what `mining.json` holds.

    Args:
        samples: The training split.
        logits: (samples, classes) of the model that is asked, without augmentation.
        later_margins: (samples,) of each epoch recorded as training dynamics, as trained on.
        variety: (samples,), see `ask_surroundings`.

    Returns:
        key; label and predicted (class indices); wrong; probability of the predicted class; margin of the
        logits (see `metrics.margins`); mean_margin over the recorded epochs, None without any;
        margin_deviation over them; variety, None where the answer does not change with the surroundings;
        likely_label_error.
    """
    predicted = logits.argmax(axis=1)
    probabilities = softmax(logits).max(axis=1)
    own_margins = margins(logits, samples.labels)
    wrong = predicted != samples.labels
    means, deviations = _means(later_margins, own_margins), _deviations(later_margins, own_margins)
    doubted = likely_label_errors(wrong, means, samples.labels, len(later_margins))
    return [
        {
            "key": key,
            "label": int(samples.labels[index]),
            "predicted": int(predicted[index]),
            "wrong": bool(wrong[index]),
            "probability": float(probabilities[index]),
            "margin": float(own_margins[index]),
            "mean_margin": float(means[index]) if later_margins else None,
            "margin_deviation": float(deviations[index]),
            "variety": int(variety[index]) if variety[index] >= 0 else None,
            "likely_label_error": bool(doubted[index]),
        }
        for index, key in enumerate(samples.keys)
    ]


def _deviations(later_margins: Margins, own: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of the margins over the epochs in which a sample was visited, and its own."""
    seen = np.array([*later_margins, own], np.float32)
    return np.asarray(np.nanstd(seen, axis=0), np.float32)


def _means(later_margins: Sequence[NDArray[np.float32]], own: NDArray[np.float32]) -> NDArray[np.float32]:
    """Over the epochs in which a sample was visited; its own margin where it never was."""
    seen = np.array(later_margins, np.float32).reshape(-1, len(own))
    visits = (~np.isnan(seen)).sum(axis=0)
    return np.where(visits, np.nansum(seen, axis=0) / np.maximum(visits, 1), own).astype(np.float32)


def out_of_fold_logits(context: Context, make_learner: Callable[[], Learner]) -> NDArray[np.float32]:
    """Logits (samples, classes) of models that were not trained on the sample or on others of its group.

    Each model is trained for `mining_epoch` epochs, on a schedule of that length. A fold that is done is
    kept in the directory, so that an interrupted mining goes on.

    Raises:
        DatasetError: there are fewer groups than folds, or the rest of a fold lacks a class.
    """
    samples, recipe = context.split("train"), context.recipe
    folds = assign_folds(samples.labels, samples.groups, recipe.folds, recipe.seed)
    logits = np.zeros((len(samples), len(context.job.classes)), np.float32)
    for fold in range(recipe.folds):
        rest, held_out = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        context.reporter.begin("mining", len(rest) * recipe.mining_epoch + len(held_out), epoch=fold + 1)
        ask = partial(_ask_stranger, context, make_learner, samples.select(rest), samples.select(held_out))
        logits[held_out] = kept_array(context, f"fold-{fold}", ask)
    return logits


def assign_folds(
    labels: NDArray[np.int64], groups: Sequence[str], folds: int, seed: int
) -> NDArray[np.int64]:
    """A fold for each sample, the same within a group; classes spread evenly, as far as groups allow.

    Raises:
        DatasetError: there are fewer groups than folds, or the rest of a fold lacks a class.
    """
    names, members = np.unique(np.array(groups, np.str_), return_inverse=True)
    if len(names) < folds:
        raise DatasetError(
            f"The training split has {len(names)} groups; out-of-fold mining needs {folds} or more: "
            "choose another, `imil train --fresh --mining intermediate`."
        )
    classes = int(labels.max()) + 1
    counts = np.zeros((len(names), classes), np.int64)
    np.add.at(counts, (members, labels), 1)
    filled = np.zeros((folds, classes), np.int64)
    fold_of_group = np.zeros(len(names), np.int64)
    for group in np.random.default_rng(seed).permutation(len(names)):
        own = counts[group].argmax()
        fold = np.lexsort((filled.sum(axis=1), filled[:, own]))[0]
        fold_of_group[group] = fold
        filled[fold] += counts[group]
    if ((filled.sum(axis=0) - filled) == 0).any():
        raise DatasetError(
            "Out-of-fold mining would train without a class: its samples are in too few groups. Choose "
            "another: `imil train --fresh --mining intermediate`."
        )
    return fold_of_group[members]


def _ask_stranger(
    context: Context, make_learner: Callable[[], Learner], rest: SampleSet, held_out: SampleSet
) -> NDArray[np.float32]:
    """Train a fresh model on the rest and ask it about the samples held out."""
    learner = make_learner()
    recipe = replace(context.recipe, epochs=context.recipe.mining_epoch)
    for epoch in range(1, recipe.epochs + 1):
        train_epoch(learner, rest, recipe, context.runtime, epoch, context.reporter.advance)
    return predict_split(learner.network, held_out, learner.config, context.runtime, context.reporter.advance)
