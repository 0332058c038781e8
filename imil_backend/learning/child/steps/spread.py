"""Spread: what clinicians painted in a few images is found in all others.

A few small U-Nets are trained, each without one part (fold) of the painted masks. What a network finds in the
part that it has not seen tells how good it is; if that is good enough, all of them together propose a mask
for every image. So nothing is trained twice, and what is used is rather better than what was measured. Masks
that people are to accept or correct are worth more time: for them the networks go on with all painted masks.

Shifted, mirrored and scaled images with their masks teach that it is what is seen that makes a marker, not
where; markers pasted into other painted images, that markers of several kinds occur together (Ghiasi et al.
2021, "Simple Copy-Paste"). Loss: binary cross entropy and Dice (Isensee et al. 2021, nnU-Net).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from imil_backend.images.masks.masks import dice
from imil_backend.learning.contract.proposed import FEWEST_GROUPS, Proposed, Quality
from imil_backend.learning.inputs.data import Advance
from imil_backend.learning.networks.mask_network import (
    WORKING_SIZE,
    MaskNetwork,
    at_working_size,
    resized,
    standardize,
)

BAR = 0.5  # of the Dice coefficient: nothing is spread unless its mean is above this with 97.5 % confidence
FOLDS = 3
_STEPS = 100  # of training a network
_MORE_STEPS = 60  # with all painted masks, for masks that people see
_BATCH_SIZE = 16
_LEARNING_RATE = 0.01  # at its highest
_WEIGHT_DECAY = 1e-4
_PASTED = 0.5  # chance that another image's marker is pasted
_SMALL = 0.25  # share of an image up to which what is painted is a marker that can be pasted
_SAME_PLACE = 0.95  # Dice coefficient with their common place from which masks do not differ
_READ_AT_ONCE = 64
_DRAWS = 2000  # of the groups


def count_images(samples: int, painted: int) -> int:
    """How many images `advance` is told of at most."""
    return FOLDS * (_STEPS * _BATCH_SIZE + samples) + painted


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
    learner = _Learner(images, rows[painted[useful]], covered[useful], seed, device, advance)
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


def dice_coefficients(proposed: NDArray[np.bool_], painted: NDArray[np.bool_]) -> NDArray[np.float64]:
    """`dice` of each pair of masks, both (n, height, width); (n,)."""
    return np.array([dice(one, other) for one, other in zip(proposed, painted, strict=True)])


def _cross_validate(
    learner: _Learner, groups: NDArray[np.str_], seed: int
) -> tuple[list[MaskNetwork], NDArray[np.float64]]:
    """A network for each fold, and each painted mask's Dice coefficient by the one that has not seen it."""
    folds = deal_folds(groups, FOLDS, seed)
    networks, dice = [], np.empty(len(groups))
    for fold in range(FOLDS):
        held_out = np.flatnonzero(folds == fold)
        networks.append(learner.train(np.flatnonzero(folds != fold), fold, _STEPS))
        dice[held_out] = learner.dice(networks[-1], held_out)
    return networks, dice


class _Learner:
    """The painted images and masks at the working size, on the device, and networks that learn them."""

    def __init__(
        self,
        images: NDArray[np.uint8] | Tensor,
        rows: NDArray[np.int64],
        covered: NDArray[np.float32],
        seed: int,
        device: torch.device,
        advance: Advance,
    ) -> None:
        self._seed, self._device, self._advance = seed, device, advance
        self._images = torch.cat(list(_read(images, rows, device)))
        self._masks = torch.from_numpy(covered).to(device)[:, None]
        self._small = covered.mean(axis=(1, 2)) <= _SMALL
        # Where all masks cover one place, a network that knows the place and nothing else would seem perfect.
        common = np.broadcast_to(covered.mean(axis=0) >= 0.5, covered.shape)
        self._moves = bool(dice_coefficients(common, covered >= 0.5).mean() >= _SAME_PLACE)
        self.note = ""
        if self._moves:
            self.note = (
                " The painted masks cover the same place in all images, so it was measured on shifted and "
                "mirrored ones."
            )

    def train(
        self, indices: NDArray[np.int64], number: int, steps: int, network: MaskNetwork | None = None
    ) -> MaskNetwork:
        """A network that has learned from some of the painted images: a new one, or this, which goes on."""
        random = np.random.default_rng((self._seed, number))
        network = network or self._new_network(random)
        network.train()
        optimizer = torch.optim.AdamW(network.parameters(), _LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LEARNING_RATE, total_steps=steps)
        for chosen in _batches(indices, random, steps):
            images, masks = self._augmented(chosen, indices, random)
            loss = _loss(network(images.contiguous(memory_format=torch.channels_last)), masks)
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
            self._advance(len(chosen))
        return network.eval()

    def _new_network(self, random: np.random.Generator) -> MaskNetwork:
        with torch.random.fork_rng(devices=[]):  # the training's own draws stay as they are
            torch.default_generator.manual_seed(int(random.integers(2**31)))
            network = MaskNetwork(self._images.shape[1])
        return network.to(self._device).to(memory_format=torch.channels_last)

    def dice(self, network: nn.Module, indices: NDArray[np.int64]) -> NDArray[np.float64]:
        """Dice coefficient of each of these painted masks with what the network proposes."""
        images, masks = self._images[indices], self._masks[indices]
        if self._moves:
            random = np.random.default_rng(self._seed)
            images, masks = _moved(images, masks, _Motion.drawn(len(indices), random, furthest=0.25))
        with torch.inference_mode():
            proposed = network(standardize(images)) > 0
        self._advance(len(indices))
        return dice_coefficients(proposed.cpu().numpy(), masks[:, 0].cpu().numpy() >= 0.5)

    def _augmented(
        self, chosen: NDArray[np.int64], among: NDArray[np.int64], random: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """Images as the network is given them, (n, channels, size, size), and their masks (n, size, size)."""
        images, masks = _moved(self._images[chosen], self._masks[chosen], _Motion.drawn(len(chosen), random))
        images = standardize(images)
        donors = among[self._small[among]]
        pasting = self._small[chosen] & (random.random(len(chosen)) < _PASTED)
        if len(donors) and pasting.any():
            given = random.choice(donors, len(chosen))
            markers, where = _moved(
                self._images[given], self._masks[given], _Motion.drawn(len(chosen), random)
            )
            share = where * torch.from_numpy(pasting).to(self._device)[:, None, None, None]
            images = torch.lerp(images, standardize(markers), share)
            masks = torch.maximum(masks, share)
        contrast = _uniform(random, len(chosen), 0.75, 1.25).to(self._device)
        brightness = _uniform(random, len(chosen), -0.3, 0.3).to(self._device)
        images = images * contrast + brightness
        return images, masks[:, 0]


@dataclass(frozen=True)
class _Motion:
    """How images are mirrored, scaled and shifted: (n, 2, 3) of `affine_grid`."""

    matrices: Tensor

    @classmethod
    def drawn(cls, count: int, random: np.random.Generator, furthest: float = 0.15) -> _Motion:
        """Mirrored or not; up to a seventh larger or smaller; shifted by up to `furthest` of a side."""
        matrices = np.zeros((count, 2, 3), np.float32)
        scale = np.exp(random.uniform(-0.14, 0.14, count))
        matrices[:, 0, 0] = scale * random.choice((-1, 1), count)
        matrices[:, 1, 1] = scale
        matrices[:, :, 2] = 2 * random.uniform(-furthest, furthest, (count, 2))
        return cls(torch.from_numpy(matrices))


def _moved(images: Tensor, masks: Tensor, motion: _Motion) -> tuple[Tensor, Tensor]:
    """Images and masks, both (n, channels, size, size); what comes in at a border repeats it."""
    both = torch.cat((images, masks), dim=1)
    grid = functional.affine_grid(motion.matrices.to(both.device), list(both.shape), align_corners=False)
    both = functional.grid_sample(both, grid, padding_mode="border", align_corners=False)
    return both[:, :-1], both[:, -1:]


def _loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Binary cross entropy, and 1 - Dice of each image; logits and masks are (n, size, size)."""
    shares = torch.sigmoid(logits)
    shared = (shares * masks).sum(dim=(1, 2))
    dice = (2 * shared + 1) / (shares.sum(dim=(1, 2)) + masks.sum(dim=(1, 2)) + 1)
    return functional.binary_cross_entropy_with_logits(logits, masks) + (1 - dice).mean()


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
        for batch in _read(images, rows, device):
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


def _read(
    images: NDArray[np.uint8] | Tensor, rows: NDArray[np.int64], device: torch.device
) -> Iterator[Tensor]:
    """Some images at a time, at the working size, on the device."""
    for start in range(0, len(rows), _READ_AT_ONCE):
        wanted = rows[start : start + _READ_AT_ONCE]
        if isinstance(images, Tensor):
            yield at_working_size(images[torch.from_numpy(wanted).to(images.device)].to(device))
        else:
            yield at_working_size(torch.from_numpy(images[wanted]).to(device))


def _batches(
    indices: NDArray[np.int64], random: np.random.Generator, steps: int
) -> Iterator[NDArray[np.int64]]:
    """So many batches, each index as often as any other, but for one time."""
    wanted = steps * _BATCH_SIZE
    times = -(-wanted // len(indices))
    order = np.concatenate([random.permutation(indices) for _ in range(times)])[:wanted]
    yield from order.reshape(steps, _BATCH_SIZE)


def _at_working_size(mask: NDArray[np.uint8]) -> NDArray[np.float32]:
    """0..1, (WORKING_SIZE, WORKING_SIZE)."""
    values = torch.from_numpy(np.asarray(mask, np.float32))[None, None]
    return np.asarray(resized(values, WORKING_SIZE)[0, 0].clamp(0, 255) / 255)


def _no_masks() -> NDArray[np.float32]:
    return np.zeros((0, WORKING_SIZE, WORKING_SIZE), np.float32)


def _uniform(random: np.random.Generator, count: int, low: float, high: float) -> Tensor:
    return torch.from_numpy(random.uniform(low, high, (count, 1, 1, 1)).astype(np.float32))


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
