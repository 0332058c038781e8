"""A training job: the inputs and results of a training process, as files in one directory.

Plain dataclasses and JSON, without torch: the worker writes them and the training process reads them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from imil_backend.files import replacing
from imil_backend.learning.contract.augmentations import AUGMENTATIONS
from imil_backend.learning.contract.backbones import BACKBONES, DEFAULT_BACKBONE
from imil_backend.options import option

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
Trainable = Literal["all", "layer4", "classifier"]
Precision = Literal["float32", "bfloat16"]
Correction = Literal["blackout", "beside", "counterexample", "auto"]

JOB_FILE = "job.json"
SAMPLES_FILE = "samples.json"
PROGRESS_FILE = "progress.json"
RESULT_FILE = "result.json"
MODEL_FILE = "model.safetensors"
PREDICTIONS_FILE = "predictions.json"
MINING_FILE = "mining.json"
STRENGTH_FILE = "strength.json"  # what `auto` has tried, and what it chose
SHORTCUT_FILE = "shortcut.json"  # where something is known of what is irrelevant in validation samples
CHECKPOINT_FILE = "checkpoint.pt"
INTERMEDIATE_FILE = "intermediate.pt"
LOG_FILE = "training.log"
MASKS_FILE = "masks.npy"  # at the size that is trained on, while a training runs
EMBEDDED_FILE = "embedded.npz"  # see `inference/embedding.py`
EXCHANGED_FILE = "exchanged.npz"  # see `inference/exchanged.py`
ERROR_FILE = "error.json"  # what ended a training that failed: {"error", "message"}
LAUNCH_FILE = "launch.json"  # threads and micro-batch size of this job, kept over restarts
LOCK_FILE = "training.lock"
RENDEZVOUS_FILE = "rendezvous.json"  # where a training's hosts meet, while it runs on several

BASELINE = "Recipe of the baseline"  # group of the recipe's options
# Which model is asked for mispredictions: by name, the function that asks it, see `mining.Miner`. As text,
# since it needs torch.
MINING = {
    "intermediate": "imil_backend.learning.child.ending.mining:ask_intermediate",
    "out-of-fold": "imil_backend.learning.child.ending.mining:ask_out_of_fold",
    "final": "imil_backend.learning.child.ending.mining:ask_final",
}
_TWO_IMAGES = "batch norm needs two images"


@dataclass(frozen=True)
class TrainingSample:
    """One image as training sees it."""

    key: str
    image: str  # path of the original
    sha256: str  # of the original's bytes
    label: int  # index into the job's classes
    split: Split
    group: str
    mask: str | None = None  # path of a 1-bit PNG at natural size, white = irrelevant
    mask_sha256: str | None = None
    fill: str = "black"
    outside: bool = False  # the mask was painted with Relevant strokes: all else is irrelevant
    confirmed: bool = False  # clinicians were asked about it and let its label stand


@dataclass(frozen=True)
class Recipe:
    """How a network is trained. Kept with the dataset; every version records the one it had.

    A batch is always cut into micro-batches of about `micro_batch_size`, whichever process computes them:
    batch norm takes its statistics over one, so the size belongs to what is trained and not to the machine
    (Goyal et al. 2017, section 2.3).
    """

    pretrained: bool = option(
        True, "Start from ImageNet weights.", group=BASELINE, flag="--from-imagenet/--from-scratch"
    )
    backbone: str = option(DEFAULT_BACKBONE, "Network.", group=BASELINE, choices=BACKBONES)
    image_size: int = option(
        224,
        "Width and height of the images in pixels.",
        group=BASELINE,
        at_least=min(each.smallest_image for each in BACKBONES.values()),
    )
    epochs: int = option(10, "Number of epochs.", group=BASELINE, at_least=2)
    batch_size: int = option(32, "Batch size.", group=BASELINE, at_least=2, why=_TWO_IMAGES)
    micro_batch_size: int = option(16, at_least=2, why=_TWO_IMAGES)
    learning_rate: float = option(0.005, "Maximum learning rate.", group=BASELINE, above=0)
    momentum: float = 0.9
    weight_decay: float = 1e-4
    label_smoothing: float = 0.0
    warmup_epochs: float = 0.5
    balance: Literal["none", "loss", "sampling"] = option(
        "none", "How to balance classes of different size.", group=BASELINE
    )
    augmentation: str = option("light", choices=AUGMENTATIONS)
    trainable: Trainable = option("all")  # less: the last layers only, on features of each image's views
    progressive: bool = option(
        False,
        "Progressive resizing: start with small images, which is faster. The last third of the "
        "epochs has the full size.",
        group=BASELINE,
        flag="--progressive/--full-size",
    )
    seed: int = option(0, "Random seed.", group=BASELINE)
    precision: Literal["auto"] | Precision = option("auto")
    deterministic: bool = option(
        False, "Bitwise reproducible on one machine; slower.", group=BASELINE, flag="--deterministic/--fast"
    )
    mining: str = option(
        "intermediate",
        "Model whose mispredictions are asked about; see docs/rounds.md.",
        group=BASELINE,
        choices=MINING,
    )
    mining_epoch: int = option(
        1,
        "Epoch after which the intermediate model is kept; rounds continue from it.",
        group=BASELINE,
        at_least=1,
    )
    folds: int = 3
    # What is made of the masks: the blackout in the place of the image, as in the paper; either of the two;
    # or the image, and now and then a counterexample, see inputs/exchange.py; or counterexamples as strong as
    # serves best, see child/steps/strength.py.
    correction: Correction = "blackout"
    correction_share: float = 0.5  # of the draws of a sample that show its other view
    confirmed_weight: int = 1  # how often confirmed samples are drawn, beside others, in the same steps
    spread: bool = False  # masks are proposed for all other samples, from those that were painted

    @property
    def exchanges(self) -> bool:
        """Whether counterexamples are, or may be, made of the masks."""
        return self.correction in {"counterexample", "auto"}

    def training(self, trainable: Trainable) -> Recipe:
        """The same, training these layers: the last ones alone work on features of images of one size."""
        return replace(self, trainable=trainable, progressive=self.progressive and trainable == "all")


@dataclass(frozen=True)
class TrainingJob:
    """One training: a recipe, the classes, where it starts from and where pixels are cached."""

    name: str  # of the version that comes out
    classes: tuple[str, ...]
    channels: Literal[1, 3]
    recipe: Recipe
    cache_dir: str
    weights: str | None = None  # ImageNet weights (safetensors); None: random initialisation
    resume_from: str | None = None  # an INTERMEDIATE_FILE to go on from; out-of-fold models take `weights`
    device: str = "auto"
    round_number: int = 0
    parent: str | None = None  # name of the version that this one is compared with
    parent_model: str | None = None  # its MODEL_FILE, for the shortcut test; None: without
    max_image_bytes: int = 200 * 2**20
    max_image_pixels: int = 100_000_000
    max_image_memory: int = 2 * 2**30  # bytes, of all that are decoded at once


@dataclass(frozen=True)
class Progress:
    """Where a training is; written about once a second."""

    phase: Literal[
        "starting",
        "caching",
        "proposing",
        "choosing",
        "features",
        "training",
        "mining",
        "evaluating",
        "shortcut test",
        "done",
    ]
    epoch: int = 0  # 1-based; 0 before training
    epochs: int = 0
    done: int = 0  # images of this phase or epoch
    total: int = 0
    images_per_second: float = 0.0
    metrics: Mapping[str, float | None] = field(default_factory=dict)  # validation, latest epoch
    history: Sequence[Mapping[str, Any]] = ()  # of the epochs that have ended, as in RESULT_FILE
    updated_at: float = 0.0  # seconds since 1970, UTC
    started_over: str = ""  # why an earlier attempt's epochs were lost; empty: they were not


def write_json(path: Path, value: object) -> None:
    """Write atomically: a reader sees the old file or the new one, never a part."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        json.dump(value, file, ensure_ascii=False, separators=(",", ":"))


def read_json(path: Path) -> Any:
    """The value in a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_training_job(directory: Path, job: TrainingJob, samples: list[TrainingSample]) -> None:
    """Write a training job; its JOB_FILE comes last, so that a job is complete once it exists."""
    directory.mkdir(parents=True, exist_ok=True)
    write_json(directory / SAMPLES_FILE, [asdict(sample) for sample in samples])
    write_json(directory / JOB_FILE, asdict(job))


def read_training_job(directory: Path) -> TrainingJob:
    """The training job in a directory."""
    raw = read_json(directory / JOB_FILE)
    recipe = Recipe(**raw.pop("recipe"))
    return TrainingJob(**{**raw, "classes": tuple(raw["classes"])}, recipe=recipe)


def read_samples(directory: Path) -> list[TrainingSample]:
    """The samples of a training job, in the order in which they were written."""
    return [TrainingSample(**raw) for raw in read_json(directory / SAMPLES_FILE)]


def note_start(directory: Path, started_over: str) -> None:
    """Note, before a training begins, why it begins anew."""
    directory.mkdir(parents=True, exist_ok=True)
    write_json(directory / PROGRESS_FILE, asdict(Progress("starting", started_over=started_over)))


def read_progress(directory: Path) -> Progress | None:
    """The latest progress, or None before there is any."""
    path = directory / PROGRESS_FILE
    return Progress(**read_json(path)) if path.exists() else None
