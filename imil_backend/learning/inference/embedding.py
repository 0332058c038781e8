"""What a trained network makes of each image before its classifier, in a process of its own.

    python -m imil_backend.learning.inference.embedding DIRECTORY

reads a finished training job and writes EMBEDDED_FILE beside it, for whoever retrains the last layer alone.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from imil_backend.files import replacing
from imil_backend.learning.contract.training_job import (
    EMBEDDED_FILE,
    INTERMEDIATE_FILE,
    MODEL_FILE,
    SPLITS,
    read_samples,
    read_training_job,
)
from imil_backend.learning.inference.evidence import cells_of, predict_with_evidence
from imil_backend.learning.inference.prediction import predict_split
from imil_backend.learning.inputs.data import fill_cache, load_dataset
from imil_backend.learning.networks.network import before_classifier, load_model
from imil_backend.learning.networks.runtime import start_runtime
from imil_backend.learning.scoring.metrics import softmax

_BATCH_SIZE = 32


def embed(directory: Path) -> None:
    """Write EMBEDDED_FILE: of each split keys and features (n, channels); the classifier's weight and bias.

    Of the training split, too, `evidence` (n, side, side) of the class that is predicted; of the validation
    split `early`, the probabilities (n, classes) that the intermediate network gave.
    """
    job, samples = read_training_job(directory), read_samples(directory)
    made = fill_cache(job, samples, lambda _done, _total: None)
    splits = load_dataset(job, samples, made).splits
    runtime = start_runtime(job.device, "float32", deterministic=True)
    network, config = load_model(directory / MODEL_FILE)
    trunk, head = before_classifier(network, config.backbone)
    found: dict[str, NDArray[np.generic]] = {
        "weight": head.weight.detach().numpy().copy(),
        "bias": head.bias.detach().numpy().copy(),
    }
    for split in SPLITS:
        asked = (splits[split], config, runtime, lambda _: None)
        found[f"{split}_keys"] = np.array(splits[split].keys, np.str_)
        found[f"{split}_features"] = predict_split(trunk, *asked, outputs=head.in_features)
    train = splits["train"]
    outputs = predict_with_evidence(network, train, config, runtime, lambda _: None, _BATCH_SIZE)
    side = cells_of(config)
    found["evidence"] = outputs[:, len(config.classes) :].reshape(len(train), 2, side, side)[:, 1]
    state = torch.load(directory / INTERMEDIATE_FILE, map_location="cpu", weights_only=True)
    network.load_state_dict(state["network"])
    early = predict_split(network.eval(), splits["validation"], config, runtime, lambda _: None)
    found["early"] = softmax(early)
    with replacing(directory / EMBEDDED_FILE) as temporary, temporary.open("wb") as file:
        np.savez(file, **found)  # type: ignore[arg-type]


if __name__ == "__main__":
    embed(Path(sys.argv[1]))
