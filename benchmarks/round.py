"""6: a round's fine-tuning by part: plain and corrected, the whole network, its last stage, its classifier.

    python -m benchmarks.round [--quick] [--runs N] ... (see --help)

From 'enough annotations' to 'candidate evaluated', as a round runs it: a child process goes on from a
baseline's intermediate state for ten epochs, and the candidate is compared with the baseline on the
validation split. `plain` has no masks. In the others a planted tag is painted (simulated) in 4 % of the
training images, masks of all others are proposed, and counterexamples are shown. Features are computed anew
in each run. Without Label Studio and the queue: what they add is the time to read the answers again.

Parts are the phases that the training reports, looked at five times a second: 'decoding' also loads the
network, 'validation' also writes the checkpoint, 'training' also measures the statistics.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.arms import Arm, Figures, in_turns
from benchmarks.loops import recipe_of
from benchmarks.pictures import CLASSES, samples_of, training_job_of, write_pictures
from benchmarks.report import Options, Report, main, ratios, spread
from imil_backend.images.markers import draw_markers
from imil_backend.images.masks.masks import mask_to_png
from imil_backend.learning.contract.launch import run_training
from imil_backend.learning.contract.training_job import (
    INTERMEDIATE_FILE,
    PREDICTIONS_FILE,
    Progress,
    TrainingSample,
    read_json,
    write_training_job,
)
from imil_backend.learning.scoring.comparison import compare

EPOCHS = 10
SOURCE = (1024, 1024)  # width and height of the files
PAINTED = 0.04  # of the training images
MARKER, CONTRADICTING = "tag", 0.05  # share of the images whose marker tells the other class
PARTS = {  # by phase
    "starting": "start",
    "caching": "decoding",
    "proposing": "proposing masks",
    "features": "features",
    "training": "training",
    "evaluating": "validation",
    "mining": "mining",
    "shortcut test": "shortcut test",
    "done": "end",
}
CORRECTED = {"correction": "counterexample", "spread": True}
ARMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "all": CORRECTED,
    "layer4": {**CORRECTED, "trainable": "layer4"},
    "classifier": {**CORRECTED, "trainable": "classifier"},
}


def measure(options: Options) -> Report:
    """Measure at one size."""
    epochs = 2 if options.quick else EPOCHS
    report = Report("round", f"seconds of a round of {epochs} epochs, by part; ratios run by run")
    for size in options.px(224 if options.device == "cuda" else 96):
        report.rows += _measure(options, size, epochs)
    return report


def _measure(options: Options, size: int, epochs: int) -> list[dict[str, object]]:
    train, held_out = (32, 8) if options.quick else (4096, 512) if options.device == "cuda" else (160, 40)
    with tempfile.TemporaryDirectory() as scratch:
        pictures = Path(scratch) / "pictures"
        kind = write_pictures(pictures, options.xrays, train + 2 * held_out, SOURCE)
        _plant(pictures, Path(scratch) / "masks")
        _train_baseline(Path(scratch), size, options.device, held_out)
        given = {
            "scratch": scratch,
            "size": size,
            "device": options.device,
            "held_out": held_out,
            "epochs": epochs,
        }
        arms = [
            Arm(name, "benchmarks.round:fine_tune", {**given, "arm": name}, as_child=False) for name in ARMS
        ]
        measured = in_turns(arms, options.runs)
    parts = [*dict.fromkeys(PARTS.values()), "comparison", "whole"]
    return [
        {
            "px": size,
            "images": f"{train} {kind}, with a planted {MARKER}",
            "trained": name,
            **{part: spread([each.get(part, 0.0) for each in measured[name]]) for part in parts},
            "this / plain": ratios(measured, name, "plain", "whole"),
            "all / this": ratios(measured, "all", name, "whole"),
            "training, all / this": ratios(measured, "all", name, "training and features"),
        }
        for name in ARMS
    ]


def _train_baseline(scratch: Path, size: int, device: str, held_out: int) -> None:
    """Two epochs: the rounds go on from the state after the first, and are compared with the end."""
    job = training_job_of(scratch / "cache", replace(recipe_of(size, device), epochs=2), device, "baseline")
    write_training_job(scratch / "baseline", job, samples_of(scratch / "pictures", held_out))
    run_training(scratch / "baseline")


def fine_tune(scratch: str, size: int, device: str, held_out: int, epochs: int, arm: str) -> Figures:
    """Seconds of a round's parts, and of all of it."""
    root = Path(scratch)
    _forget_features_and_blackouts(root)
    recipe = replace(recipe_of(size, device), epochs=epochs + 1, **ARMS[arm])
    job = replace(
        training_job_of(root / "cache-of-this-run", recipe, device, arm),
        resume_from=str(root / "baseline" / INTERMEDIATE_FILE),
    )
    samples = samples_of(root / "pictures", held_out)
    if arm != "plain":
        samples = _painted(samples, root / "masks")
    with tempfile.TemporaryDirectory(dir=root) as directory:
        clock = _Clock()
        write_training_job(Path(directory), job, samples)
        run_training(Path(directory), on_progress=clock.see)
        clock.enter("comparison")
        predictions = [
            read_json(Path(place) / PREDICTIONS_FILE)["validation"]
            for place in (root / "baseline", directory)
        ]
        compare(*predictions)
        clock.enter("")
    parts = clock.parts
    return {
        **parts,
        "training and features": parts["training"] + parts.get("features", 0.0),
        "whole": sum(parts.values()),
    }


class _Clock:
    """Adds up the seconds of the phases that a training reports."""

    def __init__(self) -> None:
        self.parts: dict[str, float] = defaultdict(float)
        self._part, self._since = PARTS["starting"], time.time()

    def see(self, progress: Progress) -> None:
        """A new phase began when it was first written down."""
        if PARTS[progress.phase] != self._part:
            self.enter(PARTS[progress.phase], progress.updated_at)

    def enter(self, part: str, now: float | None = None) -> None:
        """Another part begins."""
        now = now or time.time()
        self.parts[self._part] += now - self._since
        self._part, self._since = part, now


def _forget_features_and_blackouts(root: Path) -> None:
    """A cache as the baseline left it: whole but for what is newly blacked out."""
    shutil.rmtree(root / "cache-of-this-run", ignore_errors=True)
    shutil.copytree(root / "cache", root / "cache-of-this-run")


def _plant(pictures: Path, masks: Path) -> None:
    """Draw the marker into all pictures, telling the class in most; write each one's mask."""
    masks.mkdir()
    for path in sorted(pictures.glob("*/*.jpg")):
        random = np.random.default_rng(int(path.stem))
        told = CLASSES.index(path.parent.name) ^ int(random.random() < CONTRADICTING)
        with Image.open(path) as picture:
            marked = draw_markers(np.asarray(picture.convert("L")), (MARKER,), told, len(CLASSES), random)
        Image.fromarray(marked.pixels).save(path, quality=90)
        (masks / f"{path.stem}.png").write_bytes(mask_to_png(marked.mask))


def _painted(samples: list[TrainingSample], masks: Path) -> list[TrainingSample]:
    """Some training samples with their masks."""
    train = [index for index, sample in enumerate(samples) if sample.split == "train"]
    chosen = set(train[: max(1, round(PAINTED * len(train)))])
    return [
        _with_mask(sample, masks / f"{sample.key}.png") if index in chosen else sample
        for index, sample in enumerate(samples)
    ]


def _with_mask(sample: TrainingSample, mask: Path) -> TrainingSample:
    digest = hashlib.sha256(mask.read_bytes()).hexdigest()
    return replace(sample, mask=str(mask), mask_sha256=digest)


if __name__ == "__main__":
    main(__doc__, measure)
