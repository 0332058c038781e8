"""The training child, but for a GPU that runs out of memory in the middle of epoch 2, once."""

import sys
from pathlib import Path

import torch

from imil_backend.learning.child import training_process
from imil_backend.learning.child.steps import epoch

_once = Path(sys.argv[1]) / "ran-out-of-memory"
_loss = epoch._Visits.loss
_train_epoch = training_process.train_epoch
_at: list[int] = []


def _train(learner, samples, recipe, runtime, number, advance):
    _at.append(number)
    return _train_epoch(learner, samples, recipe, runtime, number, advance)


def _run_out(visits, network, positions, images):
    if _at[-1] == 2 and positions.start > 0 and not _once.exists():
        _once.touch()
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    return _loss(visits, network, positions, images)


if __name__ == "__main__":
    training_process.train_epoch = _train
    epoch._Visits.loss = _run_out
    sys.exit(training_process.main())
