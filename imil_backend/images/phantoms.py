"""Phantoms: drawn chest films with a planted shortcut, for people and tests without images of patients.

Each is a schematic chest. A faint round shadow inside the lungs (the lesion) decides the class; a lead letter
in an upper corner, outside the lungs, mostly goes with it in training (L with normal, R with lesion) and says
nothing in validation and test. A network that reads the letter looks good in training, errs where the letter
contradicts the lesion, and fails outside: what an IMIL round is there to repair.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from imil_backend.errors import SettingsError
from imil_backend.images.markers import CONTRADICTS

CLASSES = ("normal", "lesion")
SPLITS = {"train": 0.7, "validation": 0.15, "test": 0.15}  # shares of the images
AGREEMENT = {"train": 0.88, "validation": 0.5, "test": 0.5}  # share of each class whose letter goes with it
_LETTERS = {"normal": "L", "lesion": "R"}
_COLUMNS = ("image", "label", "split", "group", "mask", "letter_mask", "marker", CONTRADICTS)
IS_PHANTOM = re.compile(r"phantom-\d{5}\.png$")  # by its name
_FEWEST = 40  # so that both classes, both letters and two patients are in every split

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class _FilmPlan:
    """What one phantom will show."""

    name: str
    label: str
    split: str
    patient: int
    letter: str


@dataclass(frozen=True)
class _Anatomy:
    """One patient's chest, in shares of the film's side (0 to 1)."""

    middle: float  # of the spine, from the left
    top: float  # of the lungs
    bottom: float
    gap: float  # between the spine and a lung
    width: float  # of a lung
    heart: float  # radius
    ribs: int


def write_phantoms(
    directory: Path,
    count: int,
    *,
    size: int = 256,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Draw phantoms into `images/`, `masks/` and `letters/` and list them in `index.csv`.

    The same arguments give the same files. Patients have one to three films and are in one split only.

    Args:
        directory: Made if it is not there; files of the same names are replaced.
        count: How many.
        size: Side of the square films, in pixels.
        seed: Of everything that is drawn by chance.
        progress: Called after each film with how many are done and how many there will be.

    Returns:
        The index, with columns image, label, split, group, mask (a 1-bit PNG, white = relevant: the lungs),
        letter_mask (likewise, white = the planted letter), marker (letter) and contradicts (1 where it tells
        the other class).

    Raises:
        SettingsError: fewer films than can be spread over splits and classes, or too small ones.
    """
    if count < _FEWEST or size < 64:
        raise SettingsError(f"Draw at least {_FEWEST} phantoms of at least 64 pixels, not {count} of {size}.")
    for folder in ("images", "masks", "letters"):
        (directory / folder).mkdir(parents=True, exist_ok=True)
    plans = _plan(count, seed)
    for number, plan in enumerate(plans):
        film, lungs, letter = _draw(plan, size, seed, number)
        film.save(directory / "images" / plan.name)
        lungs.save(directory / "masks" / plan.name)
        letter.save(directory / "letters" / plan.name)
        if progress:
            progress(number + 1, count)
    index = directory / "index.csv"
    with index.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(_COLUMNS)
        for plan in plans:
            group = f"patient-{plan.patient:04d}"
            paths = [f"{folder}/{plan.name}" for folder in ("images", "masks", "letters")]
            contradicts = int(_LETTERS[plan.label] != plan.letter)
            rows.writerow([paths[0], plan.label, plan.split, group, *paths[1:], "letter", contradicts])
    return index


def _plan(count: int, seed: int) -> list[_FilmPlan]:
    """Balanced classes, and exactly the agreed share of contradicting letters in each split."""
    random = np.random.default_rng([seed, 0])
    plans: list[_FilmPlan] = []
    patient = 0
    for split, number in _split_counts(count).items():
        labels = [CLASSES[place % 2] for place in range(number)]
        agrees = {label: _agreements(labels.count(label), AGREEMENT[split], random) for label in CLASSES}
        order = random.permutation(number)
        films_left = 0
        for place in order:
            if films_left == 0:
                patient, films_left = patient + 1, int(random.integers(1, 4))
            films_left -= 1
            label = labels[place]
            marked_as = label if agrees[label].pop() else CLASSES[label == "normal"]
            name = f"phantom-{len(plans) + 1:05d}.png"
            plans.append(_FilmPlan(name, label, split, patient, _LETTERS[marked_as]))
    return plans


def _split_counts(count: int) -> dict[str, int]:
    counts = {split: int(count * share) for split, share in SPLITS.items()}
    counts["train"] += count - sum(counts.values())
    return counts


def _agreements(number: int, share: float, random: np.random.Generator) -> list[bool]:
    agrees = np.arange(number) < round(number * share)
    return [bool(value) for value in random.permutation(agrees)]


def _draw(plan: _FilmPlan, size: int, seed: int, number: int) -> tuple[Image.Image, Image.Image, Image.Image]:
    """The film (8 bits of grey), its lungs and its letter (1 bit)."""
    anatomy = _anatomy(np.random.default_rng([seed, 1, plan.patient]))
    random = np.random.default_rng([seed, 2, number])
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size
    x += random.uniform(-0.02, 0.02)  # how the patient stood
    y += random.uniform(-0.02, 0.02)
    lungs = _lungs(x, y, anatomy)
    film = _chest(x, y, anatomy, _soft(lungs, size * 0.012))
    if plan.label == "lesion":
        film += _lesion(x, y, lungs, random)
    film += _texture(size, random)
    film = film * random.uniform(0.92, 1.08) + random.uniform(-0.03, 0.03)  # exposure
    chest = Image.fromarray(np.clip(film * 255, 0, 255).astype(np.uint8))
    picture = chest.copy()
    _stamp(picture, plan.letter, random)
    stamped = np.asarray(picture) != np.asarray(chest)
    return picture, Image.fromarray(lungs), Image.fromarray(stamped)


def _anatomy(random: np.random.Generator) -> _Anatomy:
    return _Anatomy(
        middle=random.uniform(0.48, 0.52),
        top=random.uniform(0.14, 0.18),
        bottom=random.uniform(0.76, 0.84),
        gap=random.uniform(0.045, 0.065),
        width=random.uniform(0.25, 0.31),
        heart=random.uniform(0.12, 0.15),
        ribs=int(random.integers(7, 10)),
    )


def _lungs(x: Floats, y: Floats, anatomy: _Anatomy) -> NDArray[np.bool_]:
    """Two domes, narrow above and wide below, cut by the diaphragm and on one side by the heart."""
    height = (y - anatomy.top) / (anatomy.bottom - anatomy.top)  # 0 at the apex, 1 at the diaphragm
    side = np.abs(x - anatomy.middle) - anatomy.gap  # 0 at the inner border
    outer = anatomy.width * np.clip(1.1 * height, 0, 1) ** 0.42
    inner = 0.03 * np.clip(height - 0.3, 0, 1)
    diaphragm = 0.93 + 0.5 * (side / anatomy.width - 0.35) ** 2  # a dome, with a sharp outer corner
    inside = (side > inner) & (side < outer) & (height > 0) & (height < diaphragm)
    return np.asarray(inside & (_heart(x, y, anatomy) > 1))


def _heart(x: Floats, y: Floats, anatomy: _Anatomy) -> Floats:
    """Below 1 inside the heart, which leans to the right of the picture (the patient's left)."""
    across = (x - anatomy.middle - 0.055) / anatomy.heart
    along = (y - anatomy.bottom + 0.13) / (1.15 * anatomy.heart)
    turned = across + 0.25 * along
    return np.asarray(turned**2 + along**2)


def _chest(x: Floats, y: Floats, anatomy: _Anatomy, lungs: Floats) -> Floats:
    """Brightness 0 (air) to 1 (bone) of a chest without a lesion; `lungs` is soft-edged, 0 to 1."""
    from_middle = np.abs(x - anatomy.middle)
    shoulders = 0.30 + 0.24 * np.clip((y - 0.02) / 0.2, 0, 1) ** 0.5
    body = 0.56 * _step(shoulders - from_middle + 0.02 * np.sin(5 * y), 0.015)
    neck = 0.35 * _step(0.1 - from_middle, 0.02) * _step(0.14 - y, 0.03)
    film = 0.04 + np.maximum(body, neck)
    film -= 0.38 * lungs
    film += 0.13 * lungs * np.exp(-(((from_middle - anatomy.gap) / 0.06) ** 2 + ((y - 0.45) / 0.13) ** 2))
    film += 0.20 * np.exp(-((from_middle / 0.04) ** 2)) * (0.85 + 0.15 * np.sin(y * 95))  # spine, vertebrae
    film += 0.05 * _step(1 - _heart(x, y, anatomy), 0.5)
    film += 0.10 * _step(y - anatomy.bottom, 0.08) * _step(shoulders - from_middle, 0.1)  # abdomen
    film += _bones(x, y, anatomy, from_middle) * _step(0.40 - from_middle, 0.02)
    return np.asarray(film)


def _bones(x: Floats, y: Floats, anatomy: _Anatomy, from_middle: Floats) -> Floats:
    """Ribs, falling outwards, and collar bones."""
    spacing = (anatomy.bottom - anatomy.top) / anatomy.ribs
    along = (y - anatomy.top - 0.55 * from_middle + 1.6 * from_middle**2) / spacing
    between = np.abs(along - np.round(along)) * spacing
    ribs = 0.075 * np.exp(-((between / 0.011) ** 2)) * _step(anatomy.bottom - y, 0.03) * _step(y - 0.14, 0.02)
    collar = y - (0.19 - 0.22 * from_middle)
    return np.asarray(ribs + 0.11 * np.exp(-((collar / 0.012) ** 2)) * _step(from_middle - 0.04, 0.01))


def _lesion(x: Floats, y: Floats, lungs: NDArray[np.bool_], random: np.random.Generator) -> Floats:
    """A faint, soft, slightly oval shadow well inside a lung."""
    radius = random.uniform(0.048, 0.066)
    rows, columns = np.nonzero(_soft(lungs, 0.03 * len(x)) > 0.95)
    place = random.integers(len(rows))
    center_y, center_x = y[rows[place], columns[place]], x[rows[place], columns[place]]
    turn, stretch = random.uniform(0, np.pi), random.uniform(1.0, 1.3)
    along = (x - center_x) * np.cos(turn) + (y - center_y) * np.sin(turn)
    across = (y - center_y) * np.cos(turn) - (x - center_x) * np.sin(turn)
    distance = np.hypot(along / stretch, across) / radius
    return np.asarray(random.uniform(0.155, 0.22) * np.exp(-(distance**4) / 1.5))


def _texture(size: int, random: np.random.Generator) -> Floats:
    """Soft vessels-like mottle and the grain of the film."""
    grain = random.normal(0, 0.018, (size, size)).astype(np.float32)
    coarse = random.normal(0, 1, (size // 16 + 1, size // 16 + 1)).astype(np.float32)
    mottle = Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(grain + 0.014 * np.asarray(mottle))


def _stamp(film: Image.Image, letter: str, random: np.random.Generator) -> None:
    """A lead letter in an upper corner: R on the patient's right, which is the picture's left."""
    side = film.width
    font = ImageFont.load_default(0.13 * side)
    x = (0.08 if letter == "R" else 0.92) + random.uniform(-0.015, 0.015)
    y = 0.09 + random.uniform(-0.02, 0.02)
    stroke = 0.008 * side
    ImageDraw.Draw(film).text((x * side, y * side), letter, 245, font, anchor="mm", stroke_width=stroke)


def _step(value: Floats, softness: float) -> Floats:
    """0 below zero, 1 above, with a soft edge."""
    return np.asarray(1 / (1 + np.exp(-np.clip(4 * value / softness, -60, 60))), np.float32)


def _soft(mask: NDArray[np.bool_], radius: float) -> Floats:
    blurred = Image.fromarray(mask.astype(np.uint8) * 255).filter(ImageFilter.GaussianBlur(radius))
    return np.asarray(blurred).astype(np.float32) / np.float32(255)
