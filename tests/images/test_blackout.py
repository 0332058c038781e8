import numpy as np
import pytest

from imil_backend.errors import MaskError, SettingsError
from imil_backend.images.masks.blackout import FILLS, black_out

RANDOM = np.random.default_rng(1)
GREY = RANDOM.integers(1, 256, (37, 53), np.uint8)
COLOUR = RANDOM.integers(1, 256, (37, 53, 3), np.uint8)
MASK = np.zeros((37, 53), bool)
MASK[5:20, 11:40] = True


@pytest.mark.parametrize("image", [GREY, COLOUR], ids=["grey", "colour"])
@pytest.mark.parametrize("fill", FILLS)
def test_only_masked_pixels_change_and_the_original_does_not(image, fill):
    before = image.copy()
    result = black_out(image, MASK, fill)
    assert (result.shape, result.dtype) == (image.shape, np.uint8)
    assert np.array_equal(result[~MASK], image[~MASK])
    assert not np.array_equal(result[MASK], image[MASK])
    assert np.array_equal(image, before)


def test_black_is_black():
    assert not black_out(GREY, MASK)[MASK].any()
    assert not black_out(COLOUR, MASK)[MASK].any()


def test_mean_is_that_of_the_kept_pixels():
    image = np.where(MASK, 255, 40).astype(np.uint8)
    assert (black_out(image, MASK, "mean") == 40).all()
    colour = np.where(MASK[..., None], 255, [10, 20, 30]).astype(np.uint8)
    assert (black_out(colour, MASK, "mean") == [10, 20, 30]).all()


def test_noise_is_the_same_for_the_same_mask():
    assert np.array_equal(black_out(GREY, MASK, "noise"), black_out(GREY, MASK, "noise"))
    other = np.roll(MASK, 1, axis=0)
    both = MASK & other
    assert not np.array_equal(black_out(GREY, MASK, "noise")[both], black_out(GREY, other, "noise")[both])


def test_noise_tells_nothing_of_what_it_covers():
    painted = np.where(MASK, 255, GREY).astype(np.uint8)
    assert np.array_equal(black_out(GREY, MASK, "noise"), black_out(painted, MASK, "noise"))


def test_blur_takes_away_the_detail():
    image = np.zeros((200, 200), np.uint8)
    image[::2] = 255
    mask = np.zeros((200, 200), bool)
    mask[80:120, 80:120] = True
    assert np.ptp(black_out(image, mask, "blur")[mask].astype(int)) < 20


@pytest.mark.parametrize("fill", FILLS)
def test_nothing_masked_and_everything_masked(fill):
    assert np.array_equal(black_out(GREY, np.zeros_like(MASK), fill), GREY)
    assert not black_out(GREY, np.ones_like(MASK), fill).any()


def test_mask_of_another_size_is_refused():
    with pytest.raises(MaskError, match="mask is 37 x 53 pixels and the image 53 x 37"):
        black_out(GREY, MASK.T)


def test_unknown_fill_is_refused():
    with pytest.raises(SettingsError, match="black, mean, noise, blur"):
        black_out(GREY, MASK, "white")
