"""Chooses the strength of the correction on the validation split, by quick trainings of the last stage.

A drop in the shortcut test alone is no reason to correct strongly: what was painted may say honestly what an
image shows, and then counterexamples cost accuracy. So each strength is tried. Of those that lose no more
accuracy than the margin on unchanged images, the one with the highest robust accuracy is taken.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from imil_backend.learning.child.context import Context
from imil_backend.learning.child.state.learner import last_layers
from imil_backend.learning.child.state.starting_point import first_state
from imil_backend.learning.child.steps.asking import ask, ask_exchanged
from imil_backend.learning.child.steps.epoch import train_epoch
from imil_backend.learning.child.steps.features import with_features
from imil_backend.learning.child.steps.proposing import with_proposals
from imil_backend.learning.contract.training_job import STRENGTH_FILE, read_json, write_json
from imil_backend.learning.inference.shortcuts import draw_once
from imil_backend.learning.inputs.batches import count_visits
from imil_backend.learning.scoring.endpoints import QUANTITIES
from imil_backend.learning.scoring.metrics import compute_metrics, softmax

# From the weakest to the strongest: of equals the weaker one is taken.
STRENGTHS: dict[str, Mapping[str, Any]] = {
    "none": {"correction_share": 0.0, "spread": False, "confirmed_weight": 1},
    "painted images": {"correction_share": 0.5, "spread": False, "confirmed_weight": 1},
    "spread": {"correction_share": 0.5, "spread": True, "confirmed_weight": 1},
    "spread and weight": {"correction_share": 0.5, "spread": True, "confirmed_weight": 5},
}
# Where nothing can be measured: it did next to nothing where there was nothing to correct.
_UNTRIED = "spread"

logger = logging.getLogger(__name__)


def with_strength(context: Context) -> Context:
    """The context with `auto` replaced by counterexamples of the best strength; others unchanged.

    What was tried is kept in `strength.json`, so that a training that was interrupted goes on with the same.
    """
    if context.recipe.correction != "auto":
        return context
    path = context.directory / STRENGTH_FILE
    kept = read_json(path) if context.runtime.is_rank_zero and path.exists() else None
    kept = context.runtime.broadcast(kept) or _choose(context)
    if context.runtime.is_rank_zero:
        write_json(path, kept)
        logger.info("%s", kept["reason"])
    return _of_strength(context, kept["chosen"])


def _of_strength(context: Context, name: str) -> Context:
    recipe = replace(context.recipe, correction="counterexample", **STRENGTHS[name])
    return replace(context, job=replace(context.job, recipe=recipe))


def _choose(context: Context) -> dict[str, Any]:
    """What `strength.json` holds.

    Returns:
        chosen: a name in STRENGTHS; reason: in a sentence; tried: a mapping for each strength, with its name,
        settings, seconds, and accuracy and robust_accuracy on the validation split. Empty where nothing
        could be measured.
    """
    known = with_proposals(_of_strength(context, _UNTRIED))
    if not len(draw_once(known.split("validation"), context.recipe.seed).indices):
        reason = f"No strength was tested, because no shortcut can be measured; {_UNTRIED!r} is used."
        return {"chosen": _UNTRIED, "reason": reason, "tried": []}
    tried = [_try(_quick(context, known, name), name) for name in STRENGTHS]
    chosen, reason = choose(tried)
    return {"chosen": chosen, "reason": reason, "tried": tried}


def choose(tried: list[dict[str, Any]]) -> tuple[str, str]:
    """The best strength, and why.

    Args:
        tried: name, accuracy and robust_accuracy of each strength; the first is no correction at all.
    """
    margin = QUANTITIES["accuracy"].margin
    without = tried[0]
    harmless = [each for each in tried if each["accuracy"] >= without["accuracy"] - margin]
    best = max(harmless, key=lambda each: each["robust_accuracy"])
    gained = 100 * (best["robust_accuracy"] - without["robust_accuracy"])
    changed = 100 * (best["accuracy"] - without["accuracy"])
    reason = (
        f"Of {len(tried)} strengths, {best['name']!r} was chosen on the validation split: {gained:+.1f} "
        f"points of robust accuracy and {changed:+.1f} on unchanged images, against none."
    )
    return best["name"], reason


def _try(quick: Context, name: str) -> dict[str, Any]:
    """Train the last stage on cached features, through the epochs that are left."""
    began = time.monotonic()
    learner, state = first_state(quick)
    learner = last_layers(learner, quick.recipe, quick.runtime)
    quick = with_features(quick, learner)
    train, recipe = quick.split("train"), quick.recipe
    epochs = range(state.epoch + 1, recipe.epochs + 1)
    quick.reporter.begin("choosing", count_visits(train.labels, recipe) * len(epochs))
    for epoch in epochs:
        train_epoch(learner, train, recipe, quick.runtime, epoch, quick.reporter.advance)
    plain = compute_metrics(softmax(ask(quick, learner, "validation")), quick.split("validation").labels)
    robust = ask_exchanged(quick, learner)
    assert robust is not None  # noqa: S101  # the caller has seen that something is known
    return {
        "name": name,
        **STRENGTHS[name],
        "accuracy": plain["accuracy"],
        "robust_accuracy": robust["accuracy"],
        "seconds": time.monotonic() - began,
    }


def _quick(context: Context, known: Context, name: str) -> Context:
    """A quick training of this strength, on masks that have been proposed once for all of them."""
    last = context.recipe
    if last.trainable == "all":
        last = last.training("layer4")
    splits = dict(known.dataset.splits)
    if not STRENGTHS[name]["spread"]:
        splits["train"] = context.split("train")
    quick = _of_strength(replace(context, job=replace(context.job, recipe=last)), name)
    return replace(quick, dataset=replace(known.dataset, splits=splits))
