"""The end of a training: the best epoch's predictions and evidence, the wrong samples, the result files."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from imil_backend.learning.child.context import Context
from imil_backend.learning.child.ending.evidence import Outputs, ask_with_evidence, evidence_of
from imil_backend.learning.child.ending.mining import mine
from imil_backend.learning.child.ending.shortcut import shortcut_test
from imil_backend.learning.child.state.kept import forget_kept, kept_array
from imil_backend.learning.child.state.learner import Learner
from imil_backend.learning.child.state.state import TrainingState
from imil_backend.learning.child.steps.asking import ask
from imil_backend.learning.contract.evidence import EVIDENCE_FILE, write_evidence
from imil_backend.learning.contract.training_job import (
    CHECKPOINT_FILE,
    MASKS_FILE,
    MINING_FILE,
    MODEL_FILE,
    PREDICTIONS_FILE,
    RESULT_FILE,
    SHORTCUT_FILE,
    Split,
    write_json,
)
from imil_backend.learning.networks.network import load_tensors, read_tensors, save_model
from imil_backend.learning.scoring.metrics import compute_metrics, softmax

Logits = NDArray[np.float32]


def finish(context: Context, learner: Learner, state: TrainingState) -> None:
    """Evaluate the best epoch, mine, write everything, the result last, and clear what was kept on the way.

    The best epoch is one of those after the intermediate state in every version of a dataset, the baseline
    too, or that one would have more to choose from.
    """
    began = time.monotonic()
    best = state.best_epoch(after=context.recipe.mining_epoch)
    assert best is not None  # noqa: S101  # check_recipe leaves epochs after the mining epoch
    _load_best(context, learner, best)
    outputs = ask_with_evidence(context, learner)
    probabilities = {
        split: softmax(values) for split, values in _reported(context, learner, state, outputs).items()
    }
    records = mine(context, learner, state)
    tested = shortcut_test(context, learner)
    state.seconds += time.monotonic() - began
    if context.runtime.is_rank_zero:
        write_json(context.directory / MINING_FILE, records)
        write_json(context.directory / PREDICTIONS_FILE, _predictions(context, probabilities))
        write_evidence(context.directory / EVIDENCE_FILE, evidence_of(context, learner, outputs))
        if tested is not None:
            write_json(context.directory / SHORTCUT_FILE, tested)
        save_model(context.directory / MODEL_FILE, learner.whole, learner.config)
        metrics: dict[str, Any] = {
            split: compute_metrics(values, context.split(split).labels)
            for split, values in probabilities.items()
        }
        if tested is not None and tested["untested"] is None:
            metrics["shortcut"] = tested["candidate"]["summary"]
        write_json(context.directory / RESULT_FILE, _result(context, learner, state, best, metrics))
        context.reporter.begin("done")
        _clear(context)


def _reported(
    context: Context, learner: Learner, state: TrainingState, outputs: dict[Split, Outputs]
) -> dict[Split, Logits]:
    """The best epoch's logits of the splits that are reported; validation's are known since that epoch.

    The whole network has answered for the test split with its class evidence; last layers alone are asked
    with the features that they were trained on.
    """
    assert state.validated is not None  # noqa: S101  # kept with the best epoch
    if context.recipe.trainable == "all":
        return {"validation": state.validated, "test": outputs["test"][:, : len(learner.config.classes)]}
    context.reporter.begin("evaluating", len(context.split("test")))
    tested = kept_array(context, "test", lambda: ask(context, learner, "test"))
    return {"validation": state.validated, "test": tested}


def _load_best(context: Context, learner: Learner, epoch: int) -> None:
    path = context.best_file(epoch)
    tensors = context.runtime.broadcast(read_tensors(path) if context.runtime.is_rank_zero else {})
    load_tensors(learner.network, tensors, path, learner.config.backbone)


def _predictions(context: Context, probabilities: dict[Split, NDArray[np.float64]]) -> dict[str, Any]:
    return {
        split: {
            "keys": context.split(split).keys,
            "groups": context.split(split).groups,
            "labels": context.split(split).labels.tolist(),
            "probabilities": values.tolist(),
        }
        for split, values in probabilities.items()
    }


def _result(
    context: Context, learner: Learner, state: TrainingState, best: int, metrics: dict[str, Any]
) -> dict[str, Any]:
    return {
        "best_epoch": best,
        "recipe": asdict(context.recipe),
        "first_epoch": state.first_epoch,
        "metrics": metrics,
        "epochs": state.history,
        "choices": _choices(context, learner),
        "seconds": state.seconds,
        "set_aside": [asdict(sample) for sample in context.dataset.set_aside],
    }


def _choices(context: Context, learner: Learner) -> dict[str, Any]:
    """What was decided at run time."""
    runtime = context.runtime
    return {
        "device": torch.cuda.get_device_name() if runtime.device.type == "cuda" else runtime.device.type,
        "precision": runtime.precision,
        "processes": runtime.world_size,
        "threads": torch.get_num_threads(),
        "micro_batch_size": context.micro_batch_size,
        "micro_batches": learner.micro_batches,
        "compiled": learner.compiled,
        "trainable": context.recipe.trainable,
        "variant": learner.config.variant,
        "deterministic": context.recipe.deterministic,
        "torch": str(torch.__version__),
    }


def _clear(context: Context) -> None:
    names = (CHECKPOINT_FILE, MASKS_FILE)
    paths = [*(context.directory / name for name in names), *context.directory.glob("best-*.safetensors")]
    for path in paths:
        path.unlink(missing_ok=True)
    forget_kept(context.directory)
