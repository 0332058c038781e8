"""Films with a planted shortcut: markers that mostly tell the class in training, and where they are.

Real chest X-rays get markers drawn at their natural size, before anything is resized; the phantoms bring
their own, a lead letter. What a simulated clinician paints is known exactly. Patients are in one split only.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
import zipfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from imil_backend.images.masks.masks import mask_to_png
from imil_backend.images.phantoms import write_phantoms
from imil_backend.learning.contract.training_job import Split, TrainingSample

XRAY_CLASSES = ("normal", "pneumonia")
PHANTOM_CLASSES = ("normal", "lesion")
FILMS = {"train": 800, "validation": 200}  # of the official training split; of the official test split all
TEST_AGREEMENT = 0.5  # of markers and labels: there a marker says nothing
PHANTOMS = 1000
PHANTOM_SIZE = 256
BRIGHTNESS = 245  # of planted markers, as of the phantoms' letters
_SQUARE, _LETTER, _TUBE = 0.1, 0.13, 0.015  # side, height and width, in shares of the film's shorter side
_MARGIN, _JITTER = 0.03, 0.03  # of markers from the edge, in the same shares
_CORNER = 0.2  # of a phantom's side: where its letter is
_LETTER_FROM = 235  # brighter than anything else in a phantom's upper corners

Bits = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Films:
    """One draw of films, as files, and what is known of them."""

    classes: tuple[str, str]
    samples: list[TrainingSample]  # without masks
    painted: dict[str, Painted]  # by key, of the training split: what a clinician would call irrelevant
    contradicting: frozenset[str]  # keys of the films whose marker tells the other class


@dataclass(frozen=True)
class Painted:
    """A mask file."""

    path: str
    sha256: str
    outside: bool  # everything but the lungs, and not the markers alone

    def onto(self, sample: TrainingSample) -> TrainingSample:
        """The sample with this mask."""
        return replace(sample, mask=self.path, mask_sha256=self.sha256, outside=self.outside)


@dataclass(frozen=True)
class _Film:
    """One X-ray before it is written."""

    name: str
    label: int
    split: Split
    group: str
    agrees: bool


def plant_in_xrays(
    archive: Path,
    directory: Path,
    *,
    kinds: Sequence[str],
    agreement: float,
    surroundings: bool,
    image_size: int,
    seed: int,
) -> Films:
    """Draw X-rays by patient, plant markers in them and write them.

    Args:
        archive: The zip of X-rays, with index.csv.
        directory: Where images and masks go.
        kinds: Of MARKERS, all of them in each film; none: the films as they are.
        agreement: Share of each class whose markers tell it, in training and validation.
        surroundings: Paint everything outside the lungs, and the markers; else the markers alone.
        image_size: Pixels a side that is trained on; masks are wider than markers by one of them.
        seed: Of the draw.
    """
    directory.mkdir(parents=True)
    samples, painted, contradicting = [], {}, set()
    with zipfile.ZipFile(archive) as content:
        films, root = _draw(content, agreement, seed)
        for number, film in enumerate(films):
            data = content.read(f"{root}/images/{film.name}")
            told = film.label if film.agrees else 1 - film.label
            marker = None
            if kinds:
                picture = Image.open(io.BytesIO(data)).convert("L")
                planted, marker = plant(picture, kinds, told, np.random.default_rng([seed, 2, number]))
                data = _png(planted)
                if told != film.label:
                    contradicting.add(film.name)
            sample = _write(directory, film, data)
            samples.append(sample)
            if film.split != "train":
                continue
            mask = None if marker is None else _wider(marker, image_size)
            if surroundings:
                lungs = Image.open(io.BytesIO(content.read(f"{root}/masks/{Path(film.name).stem}.png")))
                around = ~np.asarray(lungs.convert("1"))
                mask = around if mask is None else around | mask
            if mask is not None and mask.any():
                painted[sample.key] = _write_mask(directory, sample.key, mask, outside=surroundings)
    return Films(XRAY_CLASSES, samples, painted, frozenset(contradicting))


def draw_phantoms(
    directory: Path, *, count: int, size: int, surroundings: bool, image_size: int, seed: int
) -> Films:
    """Phantoms as `imil phantoms` draws them, and where their letters are; see `plant_in_xrays`."""
    index = write_phantoms(directory, count, size=size, seed=seed)
    samples, painted, contradicting = [], {}, set()
    with index.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            path = directory / row["image"]
            label = PHANTOM_CLASSES.index(row["label"])
            split: Split = row["split"]  # type: ignore[assignment]
            sample = TrainingSample(path.name, str(path), _digest(path), label, split, row["group"])
            samples.append(sample)
            letter, told = find_letter(Image.open(path))
            if told != label:
                contradicting.add(sample.key)
            if split == "train":
                mask = _wider(letter, image_size)
                if surroundings:
                    mask |= ~np.asarray(Image.open(directory / row["mask"]).convert("1"))
                painted[sample.key] = _write_mask(directory, sample.key, mask, outside=surroundings)
    return Films(PHANTOM_CLASSES, samples, painted, frozenset(contradicting))


def plant(
    film: Image.Image, kinds: Collection[str], told: int, random: np.random.Generator
) -> tuple[Image.Image, Bits]:
    """A film with markers that tell class `told`, and where they are, (height, width)."""
    layer = Image.new("L", film.size)
    for kind in kinds:
        MARKERS[kind](ImageDraw.Draw(layer), film.size, told, random.uniform(0, _JITTER, 2))
    marked = Image.composite(Image.new("L", film.size, BRIGHTNESS), film, layer)
    return marked, np.asarray(layer) > 0


def find_letter(phantom: Image.Image) -> tuple[Bits, int]:
    """Where a phantom's lead letter is, (height, width), and the class it tells: R, on the left, a lesion."""
    bright = np.asarray(phantom) >= _LETTER_FROM
    height, width = bright.shape
    left, right = np.zeros_like(bright), np.zeros_like(bright)
    corner = (slice(0, int(_CORNER * height)), slice(0, int(_CORNER * width)))
    left[corner] = bright[corner]
    right[:, ::-1][corner] = bright[:, ::-1][corner]
    lesion = bool(left.sum() > right.sum())
    return (left if lesion else right), int(lesion)


def _square(pen: ImageDraw.ImageDraw, size: tuple[int, int], told: int, jitter: Floats) -> None:
    """A lead tag in an upper corner: on the left, or for class 1 on the right."""
    side = round(_SQUARE * min(size))
    left, top = (round((_MARGIN + shift) * min(size)) for shift in jitter)
    if told:
        left = size[0] - left - side
    pen.rectangle((left, top, left + side - 1, top + side - 1), fill=255)


def _letter(pen: ImageDraw.ImageDraw, size: tuple[int, int], told: int, jitter: Floats) -> None:
    """An L in the upper right corner, or for class 1 an R in the upper left one."""
    across, down = (_MARGIN + _LETTER / 2 + jitter) * min(size)
    place = (float(across if told else size[0] - across), float(down))
    font = ImageFont.load_default(_LETTER * min(size))
    pen.text(place, "LR"[told], 255, font, anchor="mm", stroke_width=0.008 * min(size))


def _tube(pen: ImageDraw.ImageDraw, size: tuple[int, int], told: int, jitter: Floats) -> None:
    """A tube from the neck down into the lung on the left, or for class 1 on the right."""
    away = 1 if told else -1
    shift, end = jitter
    along = [(0.5, 0.0), (0.5 + away * 0.02, 0.2), (0.5 + away * 0.08, 0.35)]
    along.append((0.5 + away * (0.17 + shift), 0.55 + 2 * end))
    points = [(x * size[0], y * size[1]) for x, y in along]
    pen.line(points, fill=255, width=max(1, round(_TUBE * min(size))), joint="curve")


def _drain(pen: ImageDraw.ImageDraw, size: tuple[int, int], told: int, jitter: Floats) -> None:
    """A drain from the side into a lung for class 1, nothing for the other: the sick have more of them."""
    if told:
        shift, end = jitter
        points = [(size[0], (0.5 + shift) * size[1]), (0.68 * size[0], (0.42 + end) * size[1])]
        pen.line(points, fill=255, width=max(1, round(_TUBE * min(size))))


MARKERS: dict[str, Callable[[ImageDraw.ImageDraw, tuple[int, int], int, Floats], None]] = {
    "square": _square,
    "letter": _letter,
    "tube": _tube,
    "drain": _drain,
}


def _draw(archive: zipfile.ZipFile, agreement: float, seed: int) -> tuple[list[_Film], Path]:
    """The films of each split, and the archive's directory of images and masks."""
    name = next(name for name in archive.namelist() if name.endswith("index.csv"))
    rows = list(csv.DictReader(io.StringIO(archive.read(name).decode())))
    by_group: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        if row["official_split"] == "train":
            by_group.setdefault(_group(row), []).append(row)
    groups = sorted(by_group)
    random = np.random.default_rng([seed, 0])
    drawn = iter([groups[number] for number in random.permutation(len(groups))])
    chosen: dict[Split, list[dict[str, str]]] = {"train": [], "validation": []}
    for split, found in chosen.items():
        while len(found) < FILMS[split]:
            found.extend(by_group[next(drawn)])
        del found[FILMS[split] :]
    chosen["test"] = [row for row in rows if row["official_split"] == "test"]
    films = []
    for number, (split, found) in enumerate(chosen.items()):
        labels = np.array([XRAY_CLASSES.index(row["label"]) for row in found])
        share = TEST_AGREEMENT if split == "test" else agreement
        agrees = agreements(labels, share, np.random.default_rng([seed, 1, number]))
        films += [
            _Film(row["file"], int(label), split, _group(row), bool(own))
            for row, label, own in zip(found, labels, agrees, strict=True)
        ]
    return films, Path(name).parent


def agreements(labels: NDArray[np.int64], share: float, random: np.random.Generator) -> Bits:
    """For which samples the marker tells the label: exactly this share of each class, if it divides."""
    agrees = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        own = random.permutation(np.flatnonzero(labels == label))
        agrees[own[: round(share * len(own))]] = True
    return agrees


def _group(row: dict[str, str]) -> str:
    """Patients are numbered apart for each subtype."""
    return f"{row['patient']}/{row['subtype']}"


def _wider(marker: Bits, image_size: int) -> Bits:
    """With a margin of one of the pixels that are trained on, as people paint."""
    margin = math.ceil(max(marker.shape) / image_size)
    return np.asarray(Image.fromarray(marker).convert("L").filter(ImageFilter.MaxFilter(2 * margin + 1))) > 0


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _write(directory: Path, film: _Film, data: bytes) -> TrainingSample:
    path = directory / film.name
    path.write_bytes(data)
    return TrainingSample(
        film.name, str(path), hashlib.sha256(data).hexdigest(), film.label, film.split, film.group
    )


def _write_mask(directory: Path, key: str, mask: Bits, *, outside: bool) -> Painted:
    path = directory / f"{Path(key).stem}.irrelevant.png"
    data = mask_to_png(mask)
    path.write_bytes(data)
    return Painted(str(path), hashlib.sha256(data).hexdigest(), outside)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
