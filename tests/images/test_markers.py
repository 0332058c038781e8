"""Markers that are planted into images: where they are, what they tell, and what would be painted."""

from __future__ import annotations

import numpy as np
import pytest

from imil_backend.errors import SettingsError
from imil_backend.images.markers import MARKERS, agreements, draw_markers

WIDTH, HEIGHT, GREY = 200, 160, 60
EVERY = [*([name] for name in MARKERS), ["tag", "letter"]]


def marked(markers, told=1, classes=2, film=None, seed=0):
    film = np.full((HEIGHT, WIDTH), GREY, np.uint8) if film is None else film
    return draw_markers(film, markers, told, classes, np.random.default_rng(seed))


@pytest.mark.parametrize("markers", EVERY, ids="+".join)
def test_what_is_drawn_is_known_exactly_and_painted_a_little_beyond(markers):
    found = marked(markers)
    changed = found.pixels != GREY
    assert found.drawn[changed].all() and found.mask[found.drawn].all()
    assert changed.sum() > 0.95 * found.drawn.sum() > 0  # some edge of a letter may be as grey as the film
    assert found.mask.sum() > found.drawn.sum()
    assert found.mask.mean() < 0.25


@pytest.mark.parametrize("markers", EVERY, ids="+".join)
def test_markers_of_different_classes_lie_apart(markers):
    one, other = (marked(markers, told).drawn for told in (0, 1))
    assert (one ^ other).sum() > 0.5 * other.sum()


def test_markers_in_colour_images_are_grey():
    film = np.full((HEIGHT, WIDTH, 3), GREY, np.uint8)
    found = marked(["box"], film=film)
    assert found.pixels.shape == film.shape
    assert (np.ptp(found.pixels, axis=2) == 0).all()
    assert found.drawn[(found.pixels != GREY).any(axis=2)].all()


def test_each_of_four_classes_has_a_place_of_its_own():
    for name in MARKERS:
        drawn = {marked([name], told, classes=4).drawn.tobytes() for told in range(4)}
        assert len(drawn) == 4, name


def test_the_same_seed_draws_the_same_and_another_one_elsewhere():
    first, again, other = (marked(["tag"], seed=seed).drawn for seed in (1, 1, 2))
    assert (first == again).all() and (first != other).any()


def test_what_cannot_be_planted_is_refused():
    with pytest.raises(SettingsError, match="no marker 'cross'; choose one of letter"):
        marked(["cross"])
    with pytest.raises(SettingsError, match="'edge' tells at most 4 classes, and there are 5"):
        marked(["edge"], classes=5)


def test_agreement_is_exact_in_each_class():
    labels = np.array([0] * 20 + [1] * 60)
    agrees = agreements(labels, 0.95, np.random.default_rng(0))
    assert [agrees[labels == label].sum() for label in (0, 1)] == [19, 57]
