"""What is irrelevant, exchanged between images: counterexamples (Teso and Kersting 2019, CAIPI).

If an answer depends on what clinicians call irrelevant, an image with another image's irrelevant part and its
own label says so. The shortcut test exchanges in the same way (Xiao et al. 2020, mixed-same and mixed-rand).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from torch import Tensor

from imil_backend.images.masks.masks import mask_coverage, soft_edged

NOBODY = -1  # as donor: the image stays as it is
_WHOLE = 0.98  # of the image: where so much is irrelevant, an exchange leaves nothing that bears the label


@dataclass(frozen=True)
class Masks:
    """What of each sample is irrelevant, as far as it is known, at the size that is trained on."""

    coverage: NDArray[np.uint8]  # (rows, size, size): 255 irrelevant, 0 not, between them a seam
    rows: NDArray[np.int64]  # (samples,) into coverage; -1 where nothing is known
    # (samples,): painted with Relevant strokes, so that all else is irrelevant. Then its own region alone is
    # exchanged; else the donor's too, so that the donor's marker comes along wherever it is.
    outside: NDArray[np.bool_]

    @cached_property
    def known(self) -> NDArray[np.int64]:
        """Indices of the samples whose irrelevant part is known, and is not everything.

        It may be nothing: a marker that only some images have is pasted into those without, and goes from
        those that have it.
        """
        shares = np.array([coverage.mean() / 255 for coverage in self.coverage])
        usable = shares < _WHOLE
        return np.flatnonzero((self.rows >= 0) & np.append(usable, False)[self.rows])

    def select(self, indices: NDArray[np.int64]) -> Masks:
        """Those of some of the samples, in the order of `indices`."""
        return Masks(self.coverage, self.rows[indices], self.outside[indices])

    def of(self, indices: NDArray[np.int64], device: torch.device) -> Tensor:
        """uint8 (n, size, size) on the device; nothing is irrelevant where nothing is known."""
        rows = self.rows[indices]
        coverage = torch.from_numpy(self.coverage[np.maximum(rows, 0)])
        coverage[torch.from_numpy(rows < 0)] = 0
        return coverage.to(device)


def soften(mask: NDArray[np.bool_], size: int) -> NDArray[np.uint8]:
    """A mask at the size that is trained on, a pixel wider, with a soft edge.

    Args:
        mask: (height, width), True = irrelevant.
        size: pixels a side.

    Returns:
        uint8 (size, size), 255 = irrelevant.
    """
    coverage = mask_coverage(mask, size, size)
    wider = Image.fromarray(np.rint(coverage * 255).astype(np.uint8)).filter(ImageFilter.MaxFilter(3))
    return soft_edged(wider)


def exchange(images: Tensor, donors: Tensor, own: Tensor, given: Tensor, outside: Tensor) -> Tensor:
    """Images whose irrelevant part is that of a donor.

    Args:
        images: uint8 (n, size, size, channels).
        donors: likewise, one for each image.
        own: uint8 (n, size, size), what is irrelevant in the image.
        given: likewise, in the donor.
        outside: bool (n,), whether the image's own region alone is exchanged.

    Returns:
        uint8 (n, size, size, channels).
    """
    region = torch.where(outside[:, None, None], own, torch.maximum(own, given))
    share = region.unsqueeze(-1).float() / 255
    return torch.lerp(images.float(), donors.float(), share).round_().to(torch.uint8)


def draw_donors(
    labels: Sequence[int] | NDArray[np.int64],
    takers: NDArray[np.int64],
    givers: NDArray[np.int64],
    random: np.random.Generator,
    *,
    same_class: bool = False,
) -> NDArray[np.int64]:
    """A donor for each taker, never itself.

    Args:
        labels: of all samples.
        takers: indices of samples.
        givers: indices of samples, from which donors are drawn.
        random: draws.
        same_class: take donors of the taker's own class; else each class among the givers is equally likely,
            so that what is exchanged says nothing about the label.

    Returns:
        (takers,) indices of samples; NOBODY where there is no donor.
    """
    labels = np.asarray(labels)
    by_class = {int(label): givers[labels[givers] == label] for label in np.unique(labels[givers])}
    classes = np.array(sorted(by_class), np.int64)
    donors = np.full(len(takers), NOBODY, np.int64)
    if not len(classes):
        return donors
    drawn = labels[takers] if same_class else classes[random.integers(len(classes), size=len(takers))]
    chances = random.random(len(takers))
    for label, members in by_class.items():
        taking = np.flatnonzero(drawn == label)
        donors[taking] = members[(chances[taking] * len(members)).astype(np.int64)]
        for place in taking[donors[taking] == takers[taking]]:  # the next one, rather than itself
            following = int(np.flatnonzero(members == takers[place])[0] + 1) % len(members)
            donors[place] = members[following] if len(members) > 1 else NOBODY
    return donors
