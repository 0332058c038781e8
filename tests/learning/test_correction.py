"""What a training makes of the masks that clinicians painted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from imil_backend.learning.contract.training_job import Recipe
from imil_backend.learning.inference.looks import looks_at
from imil_backend.learning.inputs.batches import draw_views, plan_epoch
from imil_backend.learning.inputs.data import Draw, SampleSet
from imil_backend.learning.inputs.exchange import NOBODY, Masks

RECIPE = Recipe(correction="counterexample", correction_share=0.5)
CPU = torch.device("cpu")
COUNT = 200


def samples(**changes: object) -> SampleSet:
    """Every other one of class 1; the first 40 painted, of a pixel each."""
    keys = tuple(map(str, range(COUNT)))
    coverage = np.zeros((40, 4, 4), np.uint8)
    coverage[:, 0, 0] = 255
    rows = np.where(np.arange(COUNT) < 40, np.arange(COUNT), -1)
    made = SampleSet(
        np.repeat(np.arange(COUNT, dtype=np.uint8), 16).reshape(COUNT, 4, 4, 1),
        np.arange(COUNT),
        np.arange(COUNT) % 2,
        keys,
        keys,
        np.arange(COUNT) < 20,
        masks=Masks(coverage, rows, np.zeros(COUNT, bool)),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def test_confirmed_samples_are_drawn_more_often_in_as_many_steps() -> None:
    some = samples()
    plain = plan_epoch(some.labels, RECIPE, 1, 2)
    weighted = [
        plan_epoch(some.labels, replace(RECIPE, confirmed_weight=5), epoch, 2, some.confirmed)
        for epoch in range(1, 21)
    ]
    assert {len(plan.order) for plan in weighted} == {len(plain.order)}
    visits = np.mean([np.bincount(plan.order, minlength=COUNT) for plan in weighted], axis=0)
    assert visits[:20].mean() / visits[20:].mean() == pytest.approx(5, rel=0.05)
    assert np.isnan(weighted[0].per_sample(np.ones(COUNT, np.float32), COUNT)).any()


def test_without_weight_an_epoch_is_what_it_was() -> None:
    some = samples()
    orders = [plan_epoch(some.labels, RECIPE, 3, 2, mask).order for mask in (None, some.confirmed)]
    assert np.array_equal(*orders)


def test_a_share_of_the_draws_of_painted_samples_is_a_counterexample() -> None:
    order = np.tile(np.arange(COUNT), 50)
    donors = draw_views(samples(), order, RECIPE, 1)
    assert (donors[order >= 40] == NOBODY).all()
    painted = donors[order < 40]
    assert 0.45 < (painted != NOBODY).mean() < 0.55
    assert set(painted[painted != NOBODY]) == set(range(40))  # of painted ones, all of them
    assert 0.45 < (painted[painted != NOBODY] % 2).mean() < 0.55  # even over classes
    assert not np.array_equal(donors, draw_views(samples(), order, RECIPE, 2))
    assert np.array_equal(donors, draw_views(samples(), order, RECIPE, 1))


def test_where_relevant_parts_were_painted_anything_is_a_donor_and_its_own_region_is_exchanged() -> None:
    known = samples().masks
    assert known is not None
    outside = samples(masks=replace(known, outside=np.ones(COUNT, bool)))
    order = np.tile(np.arange(COUNT), 50)
    donors = draw_views(outside, order, RECIPE, 1)
    assert donors[donors != NOBODY].max() >= 40
    image = outside.images(Draw(np.array([3]), np.array([150])), CPU)[0, ..., 0]
    assert (image[0, 0], image[2, 2]) == (150, 3)


def test_masks_of_everything_are_not_exchanged() -> None:
    masks = Masks(np.full((40, 4, 4), 255, np.uint8), np.arange(COUNT) % 40, np.zeros(COUNT, bool))
    assert (draw_views(samples(masks=masks), np.arange(COUNT), RECIPE, 1) == NOBODY).all()


def test_masks_of_nothing_change_nothing() -> None:
    masks = Masks(np.zeros((40, 4, 4), np.uint8), np.arange(COUNT) % 40, np.zeros(COUNT, bool))
    empty, everyone = samples(masks=masks), np.arange(COUNT)
    images = empty.images(Draw(everyone, draw_views(empty, everyone, RECIPE, 1)), CPU)
    assert torch.equal(images, empty.images(everyone, CPU))


def test_a_marker_that_only_one_class_has_comes_to_the_other_and_goes() -> None:
    coverage = np.zeros((2, 4, 4), np.uint8)
    coverage[1, 0, 0] = 255
    masks = Masks(coverage, np.arange(COUNT) % 2, np.zeros(COUNT, bool))
    pixels = np.zeros((COUNT, 4, 4, 1), np.uint8)
    pixels[1::2, 0, 0] = 200  # in class 1 alone
    some, order = samples(masks=masks, cached=pixels), np.tile(np.arange(COUNT), 20)
    seen = some.images(Draw(order, draw_views(some, order, RECIPE, 1)), CPU)[:, 0, 0, 0].numpy() > 0
    assert 0.2 < seen[order % 2 == 0].mean() < 0.3
    assert 0.2 < 1 - seen[order % 2 == 1].mean() < 0.3


def test_one_painted_mask_changes_nothing() -> None:
    masks = Masks(
        np.eye(4, dtype=np.uint8)[None] * 255, np.where(np.arange(COUNT), -1, 0), np.zeros(COUNT, bool)
    )
    assert (draw_views(samples(masks=masks), np.arange(COUNT), RECIPE, 1) == NOBODY).all()


def test_beside_shows_the_blackout_in_a_share_of_the_draws() -> None:
    views = np.where(np.arange(COUNT) < 40, np.arange(COUNT) + 100, -1)[None]
    some = samples(views=views, masks=None)
    order = np.tile(np.arange(COUNT), 20)
    drawn = draw_views(some, order, RECIPE, 1)
    assert (drawn[order >= 40] == NOBODY).all()
    assert 0.4 < (drawn[order < 40] == 0).mean() < 0.6
    images = some.images(Draw(np.array([5, 5, 60]), np.array([NOBODY, 0, NOBODY])), CPU)
    assert images[:, 0, 0, 0].tolist() == [5, 105, 60]


def test_the_views_whose_features_are_kept_are_what_epochs_would_show() -> None:
    some = samples()
    plain, *views = looks_at(some, "train", RECIPE, 2)
    assert len(views) == 4
    shown = np.stack([np.empty(COUNT, np.int64) for _ in views])
    for row, view in zip(shown, views, strict=True):
        row[view.draw.indices] = view.draw.views
    assert 0.4 < (shown[:, :40] != NOBODY).mean() < 0.6 and (shown[:, 40:] == NOBODY).all()
    seen = [np.empty((COUNT, 4, 4, 1), np.uint8) for _ in (plain, *views)]
    for images, look in zip(seen, (plain, *views), strict=True):
        for part in look.parts(np.arange(COUNT)):
            images[look.draw.indices[part.places]] = part.images(CPU)[0].numpy()
    assert np.array_equal(seen[0], some.images(np.arange(COUNT), CPU).numpy())
    assert all((images != seen[0]).any((1, 2, 3)).mean() > 0.9 for images in seen[1:])  # augmented
    kept = replace(some, views=shown, masks=None, drawn=True)
    assert set(draw_views(kept, np.arange(COUNT), RECIPE, 1)) == {0, 1, 2, 3}


def test_without_masks_and_augmentation_there_are_no_other_views() -> None:
    assert len(looks_at(samples(masks=None), "train", replace(RECIPE, augmentation="none"), 2)) == 1
