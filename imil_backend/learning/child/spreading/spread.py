"""Spread: what clinicians painted in a few images is found in all others.

A few small U-Nets are trained, each without one part (fold) of the painted masks. What a network finds in the
part that it has not seen tells how good it is; if that is good enough, all of them together propose a mask
for every image. So nothing is trained twice, and what is used is rather better than what was measured. Masks
that people are to accept or correct are worth more time: for them the networks go on with all painted masks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from imil_backend.learning.child.spreading.mask_learner import BATCH_SIZE, MaskLearner, read_images
from imil_backend.learning.contract.proposed import FEWEST_GROUPS, Proposed, Quality
from imil_backend.learning.inputs.data import Advance
from imil_backend.learning.networks.mask_network import (
    WORKING_SIZE,
    MaskNetwork,
    resized,
    standardize,
)

BAR = 0.5  # of the Dice coefficient: nothing is spread unless its mean is above this with 97.5 % confidence
FOLDS = 3
_STEPS = 100  # of training a network
_MORE_STEPS = 60  # with all painted masks, for masks that people see
_DRAWS = 2000  # of the groups


def count_images(samples: int, painted: int) -> int:
    """How many images `advance` is told of at most."""
    return FOLDS * (_STEPS * BATCH_SIZE + samples) + painted


def spread_masks(
    images: NDArray[np.uint8] | Tensor,
    rows: NDArray[np.int64],
    painted: NDArray[np.int64],
    masks: NDArray[np.uint8],
    groups: Sequence[str],
    *,
    seed: int,
    device: torch.device,
    advance: Advance,
    seen: bool = False,
) -> Proposed:
    """Learn what is irrelevant from the painted masks, and propose a mask for every sample if that succeeds.

    Args:
        images: uint8 (rows, size, size, channels), a memory map or on the device.
        rows: (samples,) into `images`, of all samples that masks are proposed for and those painted.
        painted: indices of the samples that have a painted mask.
        masks: uint8 (painted, size, size), as `soften` makes them; 255 = irrelevant.
        groups: (samples,), usually patients.
        seed: of folds, first weights and augmentation. It decides all, on one device with as many threads.
        device: to compute on.
        advance: is told of images done, `count_images` in all, and of more with `seen`.
        seen: people are shown the masks. Once they are measured, the networks then go on learning from all
            painted masks, and they look at each image's mirror image too.
    """
    covered = np.stack([_at_working_size(mask) for mask in masks]) if len(masks) else _no_masks()
    useful = (covered.max(axis=(1, 2)) >= 0.5) & (covered.min(axis=(1, 2)) < 0.5)
    names = np.array([groups[index] for index in painted], np.str_)[useful]
    note = _set_aside(covered[~useful])
    if len(np.unique(names)) < FEWEST_GROUPS:
        return _refused(_too_few(names) + note, useful)
    learner = MaskLearner(images, rows[painted[useful]], covered[useful], seed, device, advance)
    networks, dice = _cross_validate(learner, names, seed)
    quality = _quality(dice, useful, names, seed)
    told, note = _told(quality, len(names)), learner.note + note
    if quality.lower is None or quality.lower < BAR:
        return _refused(
            f"No masks are proposed: {told}, and the interval must lie above {BAR}. Paint more "
            f"images, and everything irrelevant in each of them, consistently.{note}",
            useful,
            quality,
        )
    if seen:
        everything = np.arange(len(names))
        for number, network in enumerate(networks):
            learner.train(everything, FOLDS + number, _MORE_STEPS, network)
    packed, confidence = _propose(networks, images, rows, device, advance, mirrored=seen)
    return Proposed(True, f"{told[0].upper()}{told[1:]}.{note}", quality, WORKING_SIZE, packed, confidence)


def deal_folds(groups: NDArray[np.str_], folds: int, seed: int) -> NDArray[np.int64]:
    """The fold of each sample; none divides a group, and they are about as large."""
    names, members, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    fold_of = np.empty(len(names), np.int64)
    filled = np.zeros(folds, np.int64)
    order = np.random.default_rng(seed).permutation(len(names))
    for name in order[np.argsort(-sizes[order], kind="stable")]:
        fold_of[name] = filled.argmin()
        filled[fold_of[name]] += sizes[name]
    return fold_of[members]


def _cross_validate(
    learner: MaskLearner, groups: NDArray[np.str_], seed: int
) -> tuple[list[MaskNetwork], NDArray[np.float64]]:
    """A network for each fold, and each painted mask's Dice coefficient by the one that has not seen it."""
    folds = deal_folds(groups, FOLDS, seed)
    networks, dice = [], np.empty(len(groups))
    for fold in range(FOLDS):
        held_out = np.flatnonzero(folds == fold)
        networks.append(learner.train(np.flatnonzero(folds != fold), fold, _STEPS))
        dice[held_out] = learner.dice(networks[-1], held_out)
    return networks, dice


def _propose(
    networks: Sequence[nn.Module],
    images: NDArray[np.uint8] | Tensor,
    rows: NDArray[np.int64],
    device: torch.device,
    advance: Advance,
    *,
    mirrored: bool,
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Packed masks and confidences of all samples; a network's word counts as much as another's.

    Args:
        networks: that are asked.
        images: as `spread_masks` has them.
        rows: the same.
        device: the same.
        advance: the same.
        mirrored: ask them about each image's mirror image too.
    """
    packed, confidence = [], []
    with torch.inference_mode():
        for batch in read_images(images, rows, device):
            inputs = standardize(batch).contiguous(memory_format=torch.channels_last)
            found = [torch.sigmoid(network(inputs)) for network in networks]
            if mirrored:
                flipped = inputs.flip(-1)
                found += [torch.sigmoid(network(flipped)).flip(-1) for network in networks]
            shares = torch.stack(found).mean(dim=0)
            masks = shares >= 0.5
            packed.append(np.packbits(masks.flatten(1).cpu().numpy(), axis=1))
            confidence.append(_confidence(shares, masks).cpu().numpy())
            advance(len(batch) * len(networks))
    return np.concatenate(packed), np.concatenate(confidence)


def _confidence(shares: Tensor, masks: Tensor) -> Tensor:
    """The Dice coefficient to be expected of masks if the shares are right; (n,) of (n, size, size).

    Where nothing is proposed it is the chance that there is nothing in the most suspect pixel.
    """
    shared = (shares * masks).sum(dim=(1, 2))
    covered = shares.sum(dim=(1, 2)) + masks.sum(dim=(1, 2))
    return torch.where(masks.any(dim=2).any(dim=1), 2 * shared / covered, 1 - shares.amax(dim=(1, 2)))


def _at_working_size(mask: NDArray[np.uint8]) -> NDArray[np.float32]:
    """0..1, (WORKING_SIZE, WORKING_SIZE)."""
    values = torch.from_numpy(np.asarray(mask, np.float32))[None, None]
    return np.asarray(resized(values, WORKING_SIZE)[0, 0].clamp(0, 255) / 255)


def _no_masks() -> NDArray[np.float32]:
    return np.zeros((0, WORKING_SIZE, WORKING_SIZE), np.float32)


def _quality(
    dice: NDArray[np.float64], useful: NDArray[np.bool_], groups: NDArray[np.str_], seed: int
) -> Quality:
    """The Dice coefficients of all painted masks, and their mean with a percentile interval over groups."""
    names, members = np.unique(groups, return_inverse=True)
    weights = np.random.default_rng(seed).standard_exponential((_DRAWS, len(names)))[:, members]
    lower, upper = np.quantile(weights @ dice / weights.sum(axis=1), (0.025, 0.975))
    of_all: list[float | None] = [None] * len(useful)
    for place, value in zip(np.flatnonzero(useful), dice, strict=True):
        of_all[place] = float(value)
    return Quality(tuple(of_all), float(dice.mean()), float(lower), float(upper), len(names), FOLDS)


def _refused(reason: str, useful: NDArray[np.bool_], quality: Quality | None = None) -> Proposed:
    nothing = Quality((None,) * len(useful), None, None, None, 0, 0)
    bits = np.zeros((0, WORKING_SIZE**2 // 8), np.uint8)
    return Proposed(False, reason, quality or nothing, WORKING_SIZE, bits, np.zeros(0, np.float32))


def _told(quality: Quality, masks: int) -> str:
    return (
        f"on {_counted(masks, 'painted mask')} of {_groups(quality.groups)} that it was not trained on the "
        f"mask network reaches a Dice coefficient of {quality.mean:.2f} (95 % interval {quality.lower:.2f} "
        f"to {quality.upper:.2f})"
    )


def _too_few(groups: NDArray[np.str_]) -> str:
    return (
        f"No masks are proposed: there {_was(len(groups))} "
        f"{_counted(len(groups), 'usable painted mask')}, of "
        f"{_groups(len(np.unique(groups)))}; paint images of at least {_groups(FEWEST_GROUPS)}."
    )


def _groups(count: int) -> str:
    return _counted(count, "group (patient)", "groups (patients)")


def _set_aside(covered: NDArray[np.float32]) -> str:
    """What is said of masks that tell nothing."""
    everything = int((covered.min(axis=(1, 2), initial=1) >= 0.5).sum())
    nothing = len(covered) - everything
    told = [
        f"{_counted(count, 'painted mask')} that {'covers' if count == 1 else 'cover'} {what} "
        f"{_was(count)} set aside"
        for count, what in ((everything, "the whole image"), (nothing, "no pixel"))
        if count
    ]
    return "".join(f" {sentence}." for sentence in told)


def _was(count: int) -> str:
    return "was" if count == 1 else "were"


def _counted(count: int, one: str, several: str | None = None) -> str:
    return f"{count} {one if count == 1 else several or one + 's'}"
