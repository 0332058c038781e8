from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from imil_backend.errors import LearningError
from imil_backend.learning.child.spreading import mask_learner, spread
from imil_backend.learning.child.spreading.mask_learner import dice_coefficients
from imil_backend.learning.child.spreading.spread import FOLDS, count_images, deal_folds, spread_masks
from imil_backend.learning.contract.proposed import Proposed, Quality, read_proposed, write_proposed
from imil_backend.learning.inputs.exchange import soften
from imil_backend.learning.networks import mask_network

CPU = torch.device("cpu")
SIZE = 48


def with_squares(
    count: int, channels: int = 1, *, corner: tuple[int, int] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Noise with a bright square of 12 pixels somewhere, or at a corner given, and where it is."""
    random = np.random.default_rng(count)
    images = random.integers(0, 120, (count, SIZE, SIZE, channels), dtype=np.uint8)
    masks = np.zeros((count, SIZE, SIZE), bool)
    for image, mask in zip(images, masks, strict=True):
        row, column = corner or random.integers(0, SIZE - 12, 2)
        mask[row : row + 12, column : column + 12] = True
        image[mask] = 230
    return images, masks


def propose(
    images: np.ndarray, masks: np.ndarray, groups: list[str] | None = None, **given: object
) -> Proposed:
    """From masks of the first images."""
    return spread_masks(
        images,
        np.arange(len(images)),
        np.arange(len(masks)),
        np.stack([soften(mask, SIZE) for mask in masks])
        if len(masks)
        else np.zeros((0, SIZE, SIZE), np.uint8),
        groups or [str(number) for number in range(len(images))],
        **{"seed": 0, "device": CPU, "advance": lambda images: None, **given},  # type: ignore[arg-type]
    )


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, one_thread: None) -> None:
    """Networks that work at half the size, four times as fast."""
    for module in (spread, mask_network):
        monkeypatch.setattr(module, "WORKING_SIZE", SIZE)


@pytest.fixture
def briefly(monkeypatch: pytest.MonkeyPatch, small: None) -> None:
    """Networks that are hardly trained at all."""
    monkeypatch.setattr(spread, "_STEPS", 1)


@pytest.fixture
def contented(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the networks find is good enough."""
    monkeypatch.setattr(spread, "BAR", 0.0)


@pytest.mark.training
def test_what_was_painted_is_found_where_nobody_has_painted(
    monkeypatch: pytest.MonkeyPatch, small: None
) -> None:
    monkeypatch.setattr(spread, "_STEPS", 20)
    images, masks = with_squares(24)
    proposed = propose(images, masks[:16])
    assert proposed.usable, proposed.reason
    assert f"Dice coefficient of {proposed.quality.mean:.2f}" in proposed.reason
    unseen = proposed.coverage(np.arange(16, 24), SIZE) >= 128
    truth = np.stack([soften(mask, SIZE) for mask in masks[16:]]) >= 128
    assert dice_coefficients(unseen, truth).mean() > 0.75


@pytest.mark.training
def test_the_same_seed_proposes_the_same(briefly: None, contented: None) -> None:
    images, masks = with_squares(10)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, again, other = (propose(images, masks[:8], seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first.confidence, again.confidence)
    assert first.quality == again.quality
    assert not np.array_equal(first.confidence, other.confidence)
    assert torch.equal(torch.get_rng_state(), before)  # the training's own draws go on as they were


@pytest.mark.training
def test_for_people_the_networks_go_on_with_all_masks_and_look_at_mirror_images_too(
    briefly: None, contented: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spread, "_MORE_STEPS", 2)
    images, masks = with_squares(8)
    both = np.concatenate((images, images[:, :, ::-1]))
    told: list[int] = []
    proposed = propose(both, masks, seen=True, advance=told.append)
    assert sum(told) == count_images(16, 8) + FOLDS * 2 * 16
    found = proposed.masks(np.arange(16))
    assert 0 < found.mean() < 1
    assert dice_coefficients(found[8:], found[:8, :, ::-1]).min() > 0.99
    assert dice_coefficients(found[8:], found[:8]).min() < 0.99


@pytest.mark.training
def test_all_images_are_told_of_and_read_some_at_a_time(
    briefly: None, contented: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mask_learner, "_READ_AT_ONCE", 4)
    images, masks = with_squares(11, channels=3)
    cached = np.lib.format.open_memmap(tmp_path / "pixels.npy", "w+", np.uint8, (12, SIZE, SIZE, 3))
    cached[:11] = images[::-1]
    told: list[int] = []
    rows = np.arange(11)[::-1].copy()
    from_file = propose_rows(cached, rows, masks[:8], told.append)
    assert sum(told) == count_images(11, 8)
    assert from_file.packed.shape == (11, SIZE * SIZE // 8)
    on_device = propose_rows(torch.from_numpy(np.array(cached)), rows, masks[:8], told.append)
    assert np.array_equal(from_file.packed, on_device.packed)


def propose_rows(images: object, rows: np.ndarray, masks: np.ndarray, advance: object) -> Proposed:
    groups = [str(number) for number in range(len(rows))]
    masks = masks.astype(np.uint8) * 255
    return spread_masks(
        images,
        rows,
        np.arange(len(masks)),
        masks,
        groups,
        seed=0,
        device=CPU,
        advance=advance,  # type: ignore[arg-type]
    )


@pytest.mark.training
def test_below_the_bar_nothing_is_proposed(briefly: None) -> None:
    images, masks = with_squares(9)
    proposed = propose(images, masks[:8])
    assert not proposed.usable
    assert "No masks are proposed: on 8 painted masks of 8 groups (patients)" in proposed.reason
    assert "must lie above 0.5" in proposed.reason
    assert proposed.quality.mean is not None
    assert len(proposed.packed) == len(proposed.confidence) == 0


@pytest.mark.training
def test_masks_in_the_same_place_are_measured_on_moved_images(briefly: None, contented: None) -> None:
    images, masks = with_squares(8, corner=(2, 2))
    assert "the same place in all images" in propose(images, masks).reason
    images, masks = with_squares(8)
    assert "the same place" not in propose(images, masks).reason


def test_one_mask_or_few_groups_are_too_few() -> None:
    images, masks = with_squares(10)
    nothing = np.zeros((0, SIZE, SIZE), bool)
    for given, groups, told in (
        (nothing, None, "there were 0 usable painted masks, of 0 groups (patients); paint"),
        (masks[:1], None, "there was 1 usable painted mask, of 1 group (patient); paint"),
        (masks, ["a", "b"] * 5, "there were 10 usable painted masks, of 2 groups (patients); paint"),
    ):
        proposed = propose(images, given, groups)
        assert not proposed.usable
        assert told in proposed.reason
        assert proposed.quality == Quality((None,) * len(given), None, None, None, 0, 0)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (True, "10 painted masks that cover the whole image were set aside."),
        (False, "10 painted masks that cover no pixel were set aside."),
    ],
)
def test_masks_that_tell_nothing_are_set_aside(value: bool, told: str) -> None:
    images, masks = with_squares(10)
    proposed = propose(images, np.full_like(masks, value))
    assert not proposed.usable
    assert proposed.reason.endswith(told)


@pytest.mark.training
def test_the_others_are_learned_without_those_set_aside(briefly: None, contented: None) -> None:
    images, masks = with_squares(10)
    masks[3] = True
    proposed = propose(images, masks)
    assert [value is None for value in proposed.quality.dice] == [number == 3 for number in range(10)]
    assert "1 painted mask that covers the whole image was set aside." in proposed.reason


def test_no_fold_divides_a_group() -> None:
    groups = np.array(list("aaaabbbccdefgh"))
    folds = deal_folds(groups, 3, 0)
    assert all(len(np.unique(folds[groups == name])) == 1 for name in np.unique(groups))
    assert sorted(np.bincount(folds)) == [4, 5, 5]


def test_the_interval_is_that_of_groups() -> None:
    dice = np.array([0.9, 0.9, 0.9, 0.9, 0.5, 0.5, 0.5, 0.5])
    useful = np.ones(8, bool)
    apart = spread._quality(dice, useful, np.array(list("abcdefgh")), 0)
    together = spread._quality(dice, useful, np.array(list("aaaabbbb")), 0)
    assert apart.mean == together.mean == pytest.approx(0.7)
    assert 0.5 < together.lower < apart.lower < 0.7 < apart.upper < together.upper < 0.9  # type: ignore[operator]


def test_dice_coefficients() -> None:
    left, top = np.zeros((2, 1, 4, 4), bool)
    left[:, :, :2] = top[:, :2] = True
    nothing = np.zeros((1, 4, 4), bool)
    pairs = ((left, left), (left, top), (left, ~left), (left, nothing), (nothing, nothing))
    assert [float(dice_coefficients(one, other)[0]) for one, other in pairs] == [1, 0.5, 0, 0, 1]


def test_confidence_is_the_dice_to_be_expected_and_that_nothing_is_there() -> None:
    shares = torch.zeros(4, 8, 8)
    shares[0, :2] = 1.0
    shares[1, :2] = 0.6
    shares[2, :2] = 0.3
    confidence = spread._confidence(shares, shares >= 0.5)
    assert confidence.tolist() == pytest.approx([1, 0.75, 0.7, 1])


@pytest.fixture
def some() -> Proposed:
    mask = np.zeros((3, 96, 96), bool)
    mask[0, 24:48, 48:72] = mask[1, :12, :12] = True
    quality = Quality((0.5, None, 1.0), 0.75, 0.6, 0.9, 3, 3)
    confidence = np.array([0.9, 0.5, 1.0], np.float32)
    return Proposed(True, "Good.", quality, 96, np.packbits(mask.reshape(3, -1), axis=1), confidence)


@pytest.mark.parametrize("size", [48, 96, 224])
def test_proposals_have_the_same_outline_at_any_size(some: Proposed, size: int) -> None:
    coverage = some.coverage(np.array([2, 0]), size)
    assert (coverage.shape, coverage.dtype) == ((2, size, size), np.uint8)
    assert not coverage[0].any()
    rows, columns = np.nonzero(coverage[1] >= 128)
    ends = np.array([rows.min(), rows.max() + 1, columns.min(), columns.max() + 1]) / size
    assert ends == pytest.approx([0.25, 0.5, 0.5, 0.75], abs=0.01)
    assert len(np.unique(coverage[1])) > 3  # the edge is soft


def test_proposals_are_kept_in_one_file(some: Proposed, tmp_path: Path) -> None:
    path = tmp_path / "proposed.npz"
    write_proposed(path, ["a", "b", "ü"], some)
    keys, read = read_proposed(path)
    assert keys == ("a", "b", "ü")
    assert (read.usable, read.reason, read.quality, read.size) == (True, "Good.", some.quality, 96)
    assert np.array_equal(read.packed, some.packed)
    assert np.array_equal(read.confidence, some.confidence)
    assert [entry.name for entry in tmp_path.iterdir()] == ["proposed.npz"]


def test_a_damaged_file_is_told_of(some: Proposed, tmp_path: Path) -> None:
    path = tmp_path / "proposed.npz"
    write_proposed(path, ["a", "b", "c"], some)
    whole = path.read_bytes()
    damaged = (whole[: len(whole) // 2], b"", whole.replace(b"usable", b"abused"), json.dumps({}).encode())
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(LearningError, match="cannot be read"):
            read_proposed(path)
    path.unlink()
    with pytest.raises(LearningError, match="cannot be read"):
        read_proposed(path)
