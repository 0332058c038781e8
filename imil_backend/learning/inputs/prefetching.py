"""Images on their way to the device: one batch is copied while the one before is computed on.

On a GPU the copies run on a stream of their own, from pinned memory, as uint8; a dataset that is small beside
the GPU's memory is kept there instead. Whoever takes batches sees nothing of either.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch

from imil_backend.learning.inputs.data import LoadedSplits, Piece, SampleSet

_SHARE_OF_FREE_MEMORY = 0.25  # the rest is the network's
_ROWS_AT_ONCE = 1024


def prefetch(samples: SampleSet, pieces: Sequence[Piece], device: torch.device) -> Iterator[torch.Tensor]:
    """The images of each piece in turn, as of `SampleSet.images`, the next one always on its way."""
    lane = _Lane(device)
    coming: torch.Tensor | None = None
    for piece in pieces:
        arrived = None if coming is None else lane.arrive(coming)
        coming = lane.send(samples, piece)
        if arrived is not None:
            yield arrived
    if coming is not None:
        yield lane.arrive(coming)


def keep_on_device(dataset: LoadedSplits, device: torch.device) -> LoadedSplits:
    """The dataset in the device's own memory, if it takes a quarter of what is free there at most."""
    sets = dataset.splits.values()
    if sum(samples.bytes for samples in sets) > _SHARE_OF_FREE_MEMORY * _free_bytes(device):
        return dataset
    return replace(dataset, splits={name: _on(samples, device) for name, samples in dataset.splits.items()})


def _free_bytes(device: torch.device) -> int:
    """Free memory of the device's own: none where it computes on the memory that the samples are in."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0


def _on(samples: SampleSet, device: torch.device) -> SampleSet:
    """The set with its own rows alone, on the device."""
    dtype = torch.uint8 if samples.cached.dtype == np.uint8 else torch.bfloat16
    views = samples.views if samples.views is not None else np.empty((0, len(samples)), np.int64)
    wanted = np.unique(np.concatenate([samples.rows, views[views >= 0]]))
    rows = torch.empty((len(wanted), *samples.cached.shape[1:]), dtype=dtype, device=device)
    for start in range(0, len(wanted), _ROWS_AT_ONCE):
        rows[start : start + _ROWS_AT_ONCE] = samples.at(wanted[start : start + _ROWS_AT_ONCE], device)
    moved = np.where(views >= 0, np.searchsorted(wanted, views), -1)
    return replace(
        samples,
        cached=rows,
        rows=np.searchsorted(wanted, samples.rows),
        views=None if samples.views is None else moved,
    )


class _Lane:
    """The way to a device: on a GPU a stream beside the one that computes."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = None
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            # Samples that are kept on the device may be on their way to it still.
            self._stream.wait_stream(torch.cuda.current_stream(device))

    def send(self, samples: SampleSet, piece: Piece) -> torch.Tensor:
        """Begin to copy."""
        with torch.cuda.stream(self._stream):  # None: does nothing
            return samples.images(piece, self._device)

    def arrive(self, images: torch.Tensor) -> torch.Tensor:
        """Have whatever is computed from now on wait for what was sent, and keep the memory until then."""
        if self._stream is not None:
            computing = torch.cuda.current_stream(self._device)
            computing.wait_stream(self._stream)
            images.record_stream(computing)
        return images
