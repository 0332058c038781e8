from __future__ import annotations

import numpy as np
import torch

from imil_backend.learning.inputs.data import SampleSet
from imil_backend.learning.inputs.exchange import NOBODY, Masks, draw_donors, exchange, soften

CPU = torch.device("cpu")


def coverage(*corners: tuple[int, int]) -> np.ndarray:
    """(n, 8, 8): a marker of 2 x 2 pixels at each corner."""
    masks = np.zeros((len(corners), 8, 8), np.uint8)
    for mask, (row, column) in zip(masks, corners, strict=True):
        mask[row : row + 2, column : column + 2] = 255
    return masks


def test_the_donors_marker_comes_along_and_the_own_one_goes() -> None:
    left, right = torch.from_numpy(coverage((0, 0), (0, 6)))
    image, donor = left.clone()[None, ..., None], right.clone()[None, ..., None]
    seen = exchange(image, donor, left[None], right[None], torch.tensor([False]))
    assert torch.equal(seen, donor)
    seen = exchange(image, donor, left[None], right[None], torch.tensor([True]))
    assert not seen.any()  # with all but its own region kept, the donor's marker stays outside


def test_a_seam_is_soft_and_covers_the_mask() -> None:
    mask = np.zeros((64, 64), bool)
    mask[10:20, 10:20] = True
    soft = soften(mask, 64)
    assert soft[10:20, 10:20].min() >= 200
    assert (soft[:6].max(), soft.dtype) == (0, np.uint8)
    assert len(np.unique(soft)) > 3
    assert soften(mask, 32).shape == (32, 32)


def test_donors_are_even_over_classes_and_never_oneself() -> None:
    labels = np.array([0] * 90 + [1] * 10)
    everyone = np.arange(100)
    donors = draw_donors(labels, np.repeat(everyone, 50), everyone, np.random.default_rng(0))
    assert 0.45 < labels[donors].mean() < 0.55
    assert (donors != np.repeat(everyone, 50)).all()
    same = draw_donors(labels, everyone, everyone, np.random.default_rng(0), same_class=True)
    assert (labels[same] == labels).all()


def test_without_a_donor_an_image_stays_as_it_is() -> None:
    labels = np.array([0, 1, 1])
    nobody = draw_donors(labels, np.array([0, 1]), np.array([], np.int64), np.random.default_rng(0))
    assert (nobody == NOBODY).all()
    only = draw_donors(labels, np.array([0]), np.array([0]), np.random.default_rng(0))
    assert only.tolist() == [NOBODY]


def test_a_sample_set_exchanges_some_of_a_batch() -> None:
    pixels = coverage((0, 0), (0, 6), (6, 6))[..., None]
    masks = Masks(coverage((0, 0), (0, 6)), np.array([0, 1, -1]), np.zeros(3, bool))
    samples = SampleSet(
        pixels, np.arange(3), np.array([0, 1, 1]), ("a", "b", "c"), ("a", "b", "c"), masks=masks
    )
    seen = samples.exchanged(np.array([0, 1, 2]), np.array([1, NOBODY, 0]), CPU)
    assert torch.equal(seen[:2], torch.from_numpy(pixels[[1, 1]]))
    assert seen[2, 0, 0] == 255  # the donor's marker, on an image of which nothing is known
    assert samples.masks is not None
    assert samples.masks.known.tolist() == [0, 1]
    assert torch.equal(
        samples.select(np.array([1, 0])).exchanged(np.array([1]), np.array([0]), CPU)[0],
        torch.from_numpy(pixels[1]),
    )
