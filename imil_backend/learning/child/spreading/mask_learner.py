"""Networks that learn from painted images and masks.

Shifted, mirrored and scaled images with their masks teach that it is what is seen that makes a marker, not
where; markers pasted into other painted images, that markers of several kinds occur together (Ghiasi et al.
2021, "Simple Copy-Paste"). Loss: binary cross entropy and Dice (Isensee et al. 2021, nnU-Net).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from imil_backend.images.masks.masks import dice
from imil_backend.learning.inputs.data import Advance
from imil_backend.learning.networks.mask_network import MaskNetwork, at_working_size, standardize

BATCH_SIZE = 16
_LEARNING_RATE = 0.01  # at its highest
_WEIGHT_DECAY = 1e-4
_PASTED = 0.5  # chance that another image's marker is pasted
_SMALL = 0.25  # share of an image up to which what is painted is a marker that can be pasted
_SAME_PLACE = 0.95  # Dice coefficient with their common place from which masks do not differ
_READ_AT_ONCE = 64


class MaskLearner:
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
        self._images = torch.cat(list(read_images(images, rows, device)))
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


def _batches(
    indices: NDArray[np.int64], random: np.random.Generator, steps: int
) -> Iterator[NDArray[np.int64]]:
    """So many batches, each index as often as any other, but for one time."""
    wanted = steps * BATCH_SIZE
    times = -(-wanted // len(indices))
    order = np.concatenate([random.permutation(indices) for _ in range(times)])[:wanted]
    yield from order.reshape(steps, BATCH_SIZE)


def _uniform(random: np.random.Generator, count: int, low: float, high: float) -> Tensor:
    return torch.from_numpy(random.uniform(low, high, (count, 1, 1, 1)).astype(np.float32))


def read_images(
    images: NDArray[np.uint8] | Tensor, rows: NDArray[np.int64], device: torch.device
) -> Iterator[Tensor]:
    """Some images at a time, at the working size, on the device."""
    for start in range(0, len(rows), _READ_AT_ONCE):
        wanted = rows[start : start + _READ_AT_ONCE]
        if isinstance(images, Tensor):
            yield at_working_size(images[torch.from_numpy(wanted).to(images.device)].to(device))
        else:
            yield at_working_size(torch.from_numpy(images[wanted]).to(device))


def dice_coefficients(proposed: NDArray[np.bool_], painted: NDArray[np.bool_]) -> NDArray[np.float64]:
    """`dice` of each pair of masks, both (n, height, width); (n,)."""
    return np.array([dice(one, other) for one, other in zip(proposed, painted, strict=True)])
