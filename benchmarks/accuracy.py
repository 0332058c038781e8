"""Accuracy of this project's training beside a plain loop's, in paired seeds, and what the quick ways cost.

    python -m benchmarks.accuracy --xrays FILE --weights FILE --results FILE [--arms plain fast ...]

Real chest X-rays (the zip of the data set) at 96 px: 1,200 to train on, 600 to measure on, held out by
patient from the official training split. Two epochs, no augmentation, the same schedule; the last epoch
counts, so nothing is chosen by the images that are measured on. A seed decides the classifier's first weights
and the order of the images.

| arm | what is trained, and how |
|---|---|
| plain | all layers; ImageFolder, PIL, DataLoader, float32, SGD |
| fast | all layers; this project's training, as a round runs it |
| progressive | the same, the first epoch on smaller images |
| layer4, classifier | the second epoch only in part, on features; the first is that of `fast` |

Every finished run is one line of the results file; given again, the command goes on where it was interrupted.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import json
import math
import statistics
import tempfile
import time
import zipfile
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from benchmarks.report import group_of
from imil_backend.learning.child.steps.epoch import learning_rate
from imil_backend.learning.contract.launch import run_training
from imil_backend.learning.contract.training_job import (
    INTERMEDIATE_FILE,
    Recipe,
    TrainingJob,
    TrainingSample,
    write_training_job,
)
from imil_backend.learning.networks.network import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    build_network,
    load_backbone,
    read_config,
)
from imil_backend.learning.scoring.metrics import compute_metrics, softmax

MARGIN = 0.02  # of accuracy; the loop's own for promotion. Stated before anything was measured
SEEDS = range(5)
CLASSES = ("normal", "pneumonia")
IMAGES = {"train": 1200, "validation": 60, "test": 600}  # validation: a job must have one; it decides nothing
RECIPE = Recipe(image_size=96, epochs=2, augmentation="none")
VARIANTS = {
    "fast": {},
    "progressive": {"progressive": True},
    "layer4": {"trainable": "layer4"},
    "classifier": {"trainable": "classifier"},
}
FROM_INTERMEDIATE = ("layer4", "classifier")
STUDENT_T = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}  # 97.5 %, for the mean of so many differences


def lay_out(archive: Path, directory: Path) -> list[TrainingSample]:
    """Write the images as ImageFolder wants them, DIRECTORY/SPLIT/CLASS/FILE, and list them."""
    samples = []
    with zipfile.ZipFile(archive) as pictures:
        index = next(name for name in pictures.namelist() if name.endswith("index.csv"))
        rows = [
            row
            for row in csv.DictReader(io.StringIO(pictures.read(index).decode()))
            if row["official_split"] == "train"
        ]
        groups = sorted({group_of(row) for row in rows})
        held_out = {groups[number] for number in np.random.default_rng(0).permutation(len(groups))[::4]}
        wanted = dict(IMAGES)
        for number in np.random.default_rng(1).permutation(len(rows)):
            row = rows[number]
            split = "train"
            if group_of(row) in held_out:
                split = "test" if wanted["test"] else "validation"
            if not wanted[split]:
                continue
            wanted[split] -= 1
            content = pictures.read(f"{Path(index).parent}/images/{row['file']}")
            path = directory / split / row["label"] / row["file"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            digest, label = hashlib.sha256(content).hexdigest(), CLASSES.index(row["label"])
            samples.append(TrainingSample(row["file"], str(path), digest, label, split, group_of(row)))
    return samples


def train_plainly(images: Path, weights: Path, seed: int) -> dict[str, float | None]:
    """What a user would write: torchvision's reference style."""
    torch.manual_seed(seed)
    network = build_network(len(CLASSES), read_config(weights).variant)
    load_backbone(network, weights)
    optimizer = torch.optim.SGD(
        network.parameters(), RECIPE.learning_rate, RECIPE.momentum, weight_decay=RECIPE.weight_decay
    )
    loader = _loader(images / "train", shuffle=True)
    for epoch in range(RECIPE.epochs):
        network.train()
        for step, (inputs, labels) in enumerate(loader, start=1):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(RECIPE, epoch + step / len(loader))
            optimizer.zero_grad()
            functional.cross_entropy(network(inputs), labels).backward()
            optimizer.step()
    return _measure(network, _loader(images / "test", shuffle=False))


def _loader(directory: Path, *, shuffle: bool) -> DataLoader:
    size = (RECIPE.image_size, RECIPE.image_size)
    transform = transforms.Compose(
        [
            transforms.Resize(size),
            transforms.ToTensor(),
            transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )
    return DataLoader(ImageFolder(directory, transform), RECIPE.batch_size, shuffle=shuffle, num_workers=2)


@torch.inference_mode()
def _measure(network: nn.Module, loader: DataLoader) -> dict[str, float | None]:
    network.eval()
    pairs = [(network(inputs), labels) for inputs, labels in loader]
    logits, labels = (torch.cat(column).numpy() for column in zip(*pairs, strict=True))
    return compute_metrics(softmax(logits), labels)


def train_as_a_round(
    arm: str, samples: list[TrainingSample], weights: Path, work: Path, seed: int
) -> dict[str, float | None]:
    """This project's training, child process and all."""
    directory = work / f"{arm}-{seed}"
    job = TrainingJob(
        name=directory.name,
        classes=CLASSES,
        channels=1,
        recipe=replace(RECIPE, seed=seed, **VARIANTS[arm]),
        cache_dir=str(work / "cache"),
        weights=str(weights),
        resume_from=str(work / f"fast-{seed}" / INTERMEDIATE_FILE) if arm in FROM_INTERMEDIATE else None,
        device="cpu",
    )
    write_training_job(directory, job, samples)
    return run_training(directory)["metrics"]["test"]


def summarize(runs: list[dict]) -> str:
    """A table: each arm's mean accuracy, and the mean of its paired differences with a 95 % interval."""
    found = {(run["arm"], run["seed"]): run for run in runs}
    lines = [
        "| arm | against | seeds | accuracy | AUC | accuracy, difference (95 %) | AUC (95 %) | verdict |"
    ]
    lines.append("|---|---|---|---|---|---|---|---|")
    for arm in ("plain", *VARIANTS):
        against = "plain" if arm == "fast" else "fast"
        seeds = [seed for seed in SEEDS if (arm, seed) in found and (against, seed) in found]
        if not seeds:
            continue
        means = [statistics.fmean(found[arm, seed][name] for seed in seeds) for name in ("accuracy", "auc")]
        cells = [arm, "" if arm == "plain" else against, str(len(seeds)), *(f"{mean:.4f}" for mean in means)]
        if arm != "plain" and len(seeds) > 1:
            accuracy, auc = (
                _difference([found[arm, seed][name] - found[against, seed][name] for seed in seeds])
                for name in ("accuracy", "auc")
            )
            cells += [_told(*accuracy), _told(*auc), _verdict(*accuracy)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _difference(values: list[float]) -> tuple[float, float]:
    """Mean, and half the width of its 95 % interval (Student's t over the pairs)."""
    half = STUDENT_T[len(values)] * statistics.stdev(values) / math.sqrt(len(values))
    return statistics.fmean(values), half


def _told(mean: float, half: float) -> str:
    return f"{mean:+.4f} ({mean - half:+.4f} to {mean + half:+.4f})"


def _verdict(mean: float, half: float) -> str:
    if mean - half > -MARGIN:
        return f"not worse by {MARGIN}"
    return f"worse by {MARGIN}" if mean + half < -MARGIN else "undecided"


def main() -> None:
    """Run what is missing in the results file, then print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--xrays", type=Path, required=True, help="zip of the chest X-rays")
    parser.add_argument("--weights", type=Path, required=True, help="ImageNet weights of `imil weights`")
    parser.add_argument("--results", type=Path, required=True, help="JSON lines, added to")
    parser.add_argument(
        "--work", type=Path, help="where training jobs are kept; required to continue with other arms"
    )
    parser.add_argument("--arms", nargs="+", choices=["plain", *VARIANTS], default=["plain", *VARIANTS])
    options = parser.parse_args()
    lines = options.results.read_text().splitlines() if options.results.exists() else []
    runs = [json.loads(line) for line in lines]
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        samples = lay_out(options.xrays, work / "images")
        for seed in SEEDS:
            for arm in options.arms:
                if any((run["arm"], run["seed"]) == (arm, seed) for run in runs):
                    continue
                began = time.monotonic()
                if arm == "plain":
                    metrics = train_plainly(work / "images", options.weights, seed)
                else:
                    metrics = train_as_a_round(arm, samples, options.weights, work, seed)
                run = {"arm": arm, "seed": seed, "seconds": time.monotonic() - began, **metrics}
                runs.append(run)
                with options.results.open("a") as file:
                    file.write(json.dumps(run) + "\n")
                print(run, flush=True)
    print(f"recipe {asdict(RECIPE)}, margin {MARGIN}\n{summarize(runs)}")


if __name__ == "__main__":
    main()
