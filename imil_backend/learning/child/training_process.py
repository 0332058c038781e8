"""The training process of a job's directory; torchrun starts several of them, on one host or on several.

    python -m imil_backend.learning.child DIRECTORY
    torchrun --standalone --nproc-per-node N -m imil_backend.learning.child DIRECTORY

Every process does the same; the first one, on whichever host it is, writes the files.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import torch
from torch import distributed

from imil_backend.errors import OutOfMemoryError
from imil_backend.learning.child.context import Context
from imil_backend.learning.child.ending.mining import mining_epoch
from imil_backend.learning.child.ending.results import finish
from imil_backend.learning.child.reporting import Reporter
from imil_backend.learning.child.state.checkpoint import save_state
from imil_backend.learning.child.state.learner import Learner
from imil_backend.learning.child.state.starting_point import begin
from imil_backend.learning.child.state.state import TrainingState, of_whole_network
from imil_backend.learning.child.steps.asking import ask, ask_exchanged
from imil_backend.learning.child.steps.compiling import compiled_if_it_pays
from imil_backend.learning.child.steps.epoch import EpochRecord, train_epoch
from imil_backend.learning.child.steps.features import with_features
from imil_backend.learning.child.steps.proposing import with_proposals
from imil_backend.learning.child.steps.strength import with_strength
from imil_backend.learning.child.steps.threads import keep_faster_threads
from imil_backend.learning.contract.checks import check_recipe, check_samples
from imil_backend.learning.contract.supervision import only_training_in
from imil_backend.learning.contract.training_job import (
    CHECKPOINT_FILE,
    ERROR_FILE,
    INTERMEDIATE_FILE,
    LAUNCH_FILE,
    LOCK_FILE,
    TrainingJob,
    read_json,
    read_samples,
    read_training_job,
    write_json,
)
from imil_backend.learning.inputs.batches import count_visits
from imil_backend.learning.inputs.data import fill_cache, load_dataset
from imil_backend.learning.inputs.prefetching import keep_on_device
from imil_backend.learning.networks.network import save_weights
from imil_backend.learning.networks.runtime import start_runtime
from imil_backend.learning.scoring.metrics import compute_metrics, softmax
from imil_backend.logs import OneLine

OUT_OF_MEMORY_EXIT = 75
_OUT_OF_MEMORY_WORDS = ("allocate memory", "out of memory", "not enough memory", "ALLOC_FAILED")
_GLOO_TRANSPORT = "gloo/transport/"  # in its messages, with the file in which a connection ended
logger = logging.getLogger(__name__)


def train(context: Context) -> None:
    """Train the remaining epochs of a job, then write its results."""
    context = with_proposals(with_strength(context))
    learner, state = begin(context)
    if context.recipe.trainable != "all":
        context = with_features(context, learner)
    context = replace(context, dataset=keep_on_device(context.dataset, context.runtime.device))
    learner = compiled_if_it_pays(context, learner, context.recipe.epochs - state.epoch)
    if not context.recipe.deterministic:
        keep_faster_threads(learner, context.split("train"), context.runtime)
    context.reporter.set_history(state.history)
    for epoch in range(state.epoch + 1, context.recipe.epochs + 1):
        began = time.monotonic()
        context.reporter.begin("training", count_visits(context.split("train").labels, context.recipe), epoch)
        record = train_epoch(
            learner,
            context.split("train"),
            context.recipe,
            context.runtime,
            epoch,
            context.reporter.advance,
        )
        _evaluate(context, learner, state, record)
        if context.recipe.mining == "intermediate" and epoch == mining_epoch(context.recipe, state):
            context.reporter.begin("mining", len(context.split("train")))
            state.mined = ask(context, learner, "train")
        state.seconds += time.monotonic() - began
        if context.runtime.is_rank_zero:
            _keep(context, learner, state)
    finish(context, learner, state)


def _evaluate(context: Context, learner: Learner, state: TrainingState, record: EpochRecord) -> None:
    """Measure on the validation split and add the epoch to the state."""
    validation = context.split("validation")
    context.reporter.begin("evaluating", len(validation))
    logits = ask(context, learner, "validation")
    metrics = compute_metrics(softmax(logits), validation.labels)
    context.reporter.set_metrics(metrics)
    state.epoch += 1
    state.margins.append(record.margins)
    state.history.append(
        {
            "epoch": state.epoch,
            "train_loss": record.loss,
            "validation": metrics,
            "exchanged": ask_exchanged(context, learner),
            "images_per_second": record.images / record.seconds,
        }
    )
    context.reporter.set_history(state.history)
    if state.best_epoch(after=context.recipe.mining_epoch) == state.epoch:
        state.validated = logits
    if context.runtime.is_rank_zero:
        logger.info("epoch %d: loss %.4f, validation %s", state.epoch, record.loss, metrics)


def _keep(context: Context, learner: Learner, state: TrainingState) -> None:
    """Write the state, and the best epoch's weights under that epoch's name: never one without the other."""
    best = state.best_epoch(after=context.recipe.mining_epoch)
    if best == state.epoch:
        save_weights(context.best_file(best), learner.network)
    saved = state.to_dict(learner)
    if state.first_epoch == 0 and state.epoch == context.recipe.mining_epoch:
        save_state(context.directory / INTERMEDIATE_FILE, of_whole_network(saved, learner))
    save_state(context.directory / CHECKPOINT_FILE, saved)
    for path in context.directory.glob("best-*.safetensors"):
        if path != context.best_file(best or 0):
            path.unlink()


def run_training_job(directory: Path) -> None:
    """Do the training job of a directory, in this process and those that torchrun has started with it.

    Raises:
        ImilError: it cannot be done; the message says why.
    """
    job, samples = read_training_job(directory), read_samples(directory)
    check_recipe(job.recipe)
    check_samples(samples, job.classes)
    first = os.environ.get("RANK", "0") == "0"
    with only_training_in(directory / LOCK_FILE) if first else nullcontext():
        runtime = start_runtime(
            job.device, job.recipe.precision, Path(job.cache_dir), deterministic=job.recipe.deterministic
        )
        reporter = Reporter(directory, job.recipe.epochs, enabled=runtime.is_rank_zero)
        reporter.begin("caching", len(samples))
        made = runtime.broadcast(
            fill_cache(job, samples, reporter.set_done) if runtime.is_rank_zero else None
        )
        assert made is not None  # noqa: S101  # the first process shares what it made
        dataset = load_dataset(job, samples, made)
        unread = {sample.key for sample in dataset.set_aside}
        check_samples([sample for sample in samples if sample.key not in unread], job.classes)
        train(Context(directory, job, dataset, runtime, reporter, _micro_batch_size(directory, job)))
        if distributed.is_initialized():
            distributed.destroy_process_group()


def _micro_batch_size(directory: Path, job: TrainingJob) -> int:
    """The recipe's, unless a launch has made it smaller for want of memory."""
    path = directory / LAUNCH_FILE
    launched = read_json(path) if path.exists() else {}
    return int(launched.get("micro_batch_size", job.recipe.micro_batch_size))


def is_out_of_memory(error: Exception) -> bool:
    """Whether memory ran out; libraries and the CPU's allocator have no exception of their own for it."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in _OUT_OF_MEMORY_WORDS)
    )


def is_lost_process(error: Exception) -> bool:
    """Whether another process of this training is gone; gloo has no exception of its own for it."""
    return isinstance(error, distributed.DistError) or (
        isinstance(error, RuntimeError) and _GLOO_TRANSPORT in str(error)
    )


def _report_failure(directory: Path, error: Exception) -> None:
    """Leave the reason for the parent; of several processes the first to fail knows it.

    That another one is gone is no reason: that one's is, or it was killed, and the training is restarted.
    """
    path = directory / ERROR_FILE
    if not path.exists() and not is_lost_process(error):
        name = OutOfMemoryError.__name__ if is_out_of_memory(error) else type(error).__name__
        where = f" (on {socket.gethostname()})" if int(os.environ.get("GROUP_WORLD_SIZE", "1")) > 1 else ""
        write_json(path, {"error": name, "message": f"{error}{where}"})


def main() -> int:
    """Do the training job of the directory given on the command line; returns the exit status."""
    handler = logging.StreamHandler()
    handler.setFormatter(OneLine())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    directory = Path(sys.argv[1])
    try:
        run_training_job(directory)
    except Exception as error:  # whatever it is, the parent must hear of it
        logger.exception("The training failed")
        _report_failure(directory, error)
        return OUT_OF_MEMORY_EXIT if is_out_of_memory(error) else 1
    return 0
