"""Spread: how well a few painted masks are found in all other images, and how long that takes.

Masks are simulated: markers as `imil plant` draws them, and with the X-rays what lies outside the lungs.
`dice` is what cross-validation over the painted masks tells a user; `dice, others` is the truth, over all
images that were not painted. Seconds are those of cross-validation and proposing together, on this machine.
"""

from __future__ import annotations

import csv
import io
import tempfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks.arms import Arm, in_turns
from benchmarks.report import Options, Report, main, spread
from imil_backend.images.markers import draw_markers
from imil_backend.images.phantoms import write_phantoms
from imil_backend.learning.child.spreading.mask_learner import dice_coefficients
from imil_backend.learning.child.spreading.spread import spread_masks
from imil_backend.learning.inputs.exchange import soften

IMAGES, PAINTED = 2500, 50
KINDS = ("tag", "letter", "tube", "ruler")
# What is painted: the kinds of markers, and how many of them an image has
PLANTED = {kind: ((kind,), 1) for kind in KINDS} | {"any of four": (KINDS, 1), "two of four": (KINDS, 2)}
LUNGS = "outside the lungs"


@dataclass(frozen=True)
class _Pictures:
    images: NDArray[np.uint8]  # (n, size, size)
    lungs: NDArray[np.bool_] | None  # (n, height, width)
    groups: tuple[str, ...]


def measure(options: Options) -> Report:
    """Every task at every size; each run has other images painted."""
    counts = (40, 12) if options.quick else (IMAGES, PAINTED)
    report = Report("spread", "Dice coefficients of proposed masks. All masks are simulated.")
    tasks = [(name, counts[1]) for name in (*PLANTED, *([LUNGS] if options.xrays else []))]
    tasks += [] if options.quick else [("tag", 8)]
    for size in options.px(96):
        for task, painted in tasks[: 1 if options.quick else None]:
            report.rows.append(_row(options, task, size, counts[0], painted))
    return report


def _row(options: Options, task: str, size: int, count: int, painted: int) -> dict[str, Any]:
    archive = str(options.xrays) if options.xrays else None
    runs = [
        in_turns(
            [
                Arm(
                    f"{task}, {painted} painted, seed {seed}",
                    "benchmarks.spread:find",
                    {
                        "archive": archive,
                        "task": task,
                        "size": size,
                        "count": count,
                        "painted": painted,
                        "seed": seed,
                        "device": options.device,
                    },
                )
            ],
            1,
        )
        for seed in range(options.runs)
    ]
    figures = [measured[0] for run in runs for measured in run.values()]
    return {
        "painted": f"{painted} of {task}",
        "images": f"{count} {'real X-rays' if archive else 'phantoms (drawn)'}",
        "px": size,
        **{
            shown: spread([each[name] for each in figures])
            for name, shown in (
                ("seconds", "seconds"),
                ("cpu_seconds", "CPU seconds"),
                ("dice", "dice"),
                ("lower", "dice, lower 95 %"),
                ("others", "dice, others"),
            )
        },
    }


def find(
    archive: str | None, task: str, size: int, count: int, painted: int, seed: int, device: str
) -> dict[str, float]:
    """One run: masks are painted, spread, and compared with the truth; 0 if nothing is proposed."""
    pictures = _xrays(Path(archive), size, count) if archive else _phantoms(size, count)
    images, truth = _painted(pictures, task, np.random.default_rng(seed))
    chosen = np.sort(np.random.default_rng((seed, 1)).choice(count, painted, replace=False))
    began, worked = time.perf_counter(), time.process_time()
    proposed = spread_masks(
        images[..., None],
        np.arange(count),
        chosen,
        truth[chosen],
        pictures.groups,
        seed=seed,
        device=torch.device(device),
        advance=lambda done: None,
    )
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - worked
    rest = np.setdiff1d(np.arange(count), chosen)
    found = np.zeros(0)
    if proposed.usable:
        found = dice_coefficients(proposed.coverage(rest, size) >= 128, truth[rest] >= 128)
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "dice": proposed.quality.mean or 0.0,
        "lower": proposed.quality.lower or 0.0,
        "others": float(found.mean()) if len(found) else 0.0,
    }


def _painted(
    pictures: _Pictures, task: str, random: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The images, markers and all, and what `soften` makes of each one's mask."""
    size = pictures.images.shape[1]
    if task == LUNGS and pictures.lungs is not None:
        return pictures.images, np.stack([soften(~lungs, size) for lungs in pictures.lungs])
    kinds, number = PLANTED[task]
    marked = [
        draw_markers(image, random.choice(kinds, number, replace=False).tolist(), told, 2, random)
        for image, told in zip(pictures.images, random.integers(0, 2, len(pictures.images)), strict=True)
    ]
    return np.stack([each.pixels for each in marked]), np.stack([soften(each.mask, size) for each in marked])


def _xrays(archive: Path, size: int, count: int) -> _Pictures:
    """Drawn from the official training split; groups are patient and subtype."""
    with zipfile.ZipFile(archive) as content:
        index = next(name for name in content.namelist() if name.endswith("index.csv"))
        rows = list(csv.DictReader(io.StringIO(content.read(index).decode())))
        rows = [row for row in rows if row["official_split"] == "train"]
        rows = [rows[number] for number in np.random.default_rng(0).permutation(len(rows))[:count]]

        def read(name: str) -> Image.Image:
            return Image.open(io.BytesIO(content.read(f"{Path(index).parent}/{name}")))

        images = [_small(read(f"images/{row['file']}"), size) for row in rows]
        lungs = [np.asarray(read(f"masks/{Path(row['file']).stem}.png").convert("1")) for row in rows]
    groups = tuple(f"{row['patient']}/{row['subtype']}" for row in rows)
    return _Pictures(np.stack(images), np.stack(lungs), groups)


def _phantoms(size: int, count: int) -> _Pictures:
    with tempfile.TemporaryDirectory() as directory:
        index = write_phantoms(Path(directory) / "drawn", count, size=size)
        rows = list(csv.DictReader(io.StringIO(index.read_text(encoding="utf-8"))))
        images = np.stack([_small(Image.open(index.parent / row["image"]), size) for row in rows])
    return _Pictures(images, None, tuple(row["group"] for row in rows))


def _small(image: Image.Image, size: int) -> NDArray[np.uint8]:
    return np.asarray(image.convert("L").resize((size, size), Image.Resampling.BOX))


if __name__ == "__main__":
    main(__doc__, measure)
