"""Whether two images are the same picture: a digest of their pixels, and a perceptual hash.

The hash is a difference hash (dHash) in both directions: of 17 x 17 means, whether each is brighter than its
left and than its upper neighbour. Chest films all look alike, so it has 512 bits where 64 are usual, and what
differs is measured against the bits that are set, as most of a picture in a black frame says nothing. Of
the 16.5 million pairs of 5,750 different chest films none comes within a tenth; JPEG of quality 50, half the
size, other brightness, contrast and window, noise and a burned-in marker are found, a crop of 3% is not.
(ImageHash would do, but brings scipy and PyWavelets for these few lines.)
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 16
WORDS = SIDE * SIDE // 64  # of 64 bits, in each direction
FEWEST_BITS = 16  # of 256: fewer are set where there is next to nothing to see
TENTH = 10  # a near-duplicate's hash differs in at most this part of the bits that are set in both
MOST_PAIRS = 10_000
_ROWS, _COLUMNS = 128, 512  # of pairs compared at once; their half a megabyte stays in the processor's cache


def pixels_sha256(pixels: NDArray[np.uint8]) -> str:
    """SHA-256 of an image's size and pixels, the same however the file was written without loss."""
    digest = hashlib.sha256(repr(pixels.shape).encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


def perceptual_hash(pixels: NDArray[np.uint8]) -> str | None:
    """The hash of an image (height, width) or (height, width, 3): 128 hex digits; None if it is flat."""
    grey = Image.fromarray(pixels).convert("L")
    means = np.asarray(grey.resize((SIDE + 1, SIDE + 1), Image.Resampling.BOX))
    here = means[1:, 1:]
    directions = (here > means[1:, :-1]), (here > means[:-1, 1:])
    if min(np.count_nonzero(direction) for direction in directions) < FEWEST_BITS:
        return None
    return b"".join(np.packbits(direction).tobytes() for direction in directions).hex()


def near_duplicates(hashes: Sequence[str]) -> list[tuple[int, int]]:
    """The pairs of near-duplicates (indices, the smaller one first), the most alike first.

    Every hash is compared with every other, block by block: 100,000 take half a minute. At MOST_PAIRS it
    ends: there is then something else to be looked at than pairs.
    """
    raw = np.frombuffer(bytes.fromhex("".join(hashes)), np.uint64).reshape(len(hashes), 2, WORDS)
    words = np.ascontiguousarray(raw.transpose(1, 2, 0))  # direction, word, image
    found: list[tuple[float, int, int]] = []
    for second, first in _maybe_near(words[0]):
        found += _near(words, first, second)
        if len(found) >= MOST_PAIRS:
            break
    return [(first, second) for _, first, second in sorted(found)[:MOST_PAIRS]]


def _maybe_near(words: NDArray[np.uint64]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """The pairs, the larger index first, whose hashes (words, images) are near in one direction or nearly."""
    count = words.shape[1]
    allowed = np.ceil(np.bitwise_count(words).sum(axis=0) / TENTH).astype(np.uint8)
    differing, counted = (np.empty((_ROWS, _COLUMNS), np.uint8) for _ in range(2))
    both = np.empty((_ROWS, _COLUMNS), np.uint64)
    for top in range(0, count, _ROWS):
        for left in range(0, min(top + _ROWS, count), _COLUMNS):
            rows, columns = slice(top, min(top + _ROWS, count)), slice(left, min(left + _COLUMNS, count))
            block = slice(rows.stop - top), slice(columns.stop - left)
            differing[block] = 0
            for word in words:
                np.bitwise_xor(word[rows, None], word[columns], out=both[block])
                np.bitwise_count(both[block], out=counted[block])
                np.add(differing[block], counted[block], out=differing[block])
            np.add(allowed[rows, None], allowed[columns], out=counted[block])
            second, first = np.nonzero(differing[block] <= counted[block])
            second, first = second + top, first + left
            yield second[first < second], first[first < second]


def _near(
    words: NDArray[np.uint64], first: NDArray[np.int64], second: NDArray[np.int64]
) -> list[tuple[float, int, int]]:
    """Those of the pairs that are near in both directions, with the share of bits that differ."""
    differing = np.bitwise_count(words[..., first] ^ words[..., second]).sum(axis=1, dtype=np.int64)
    bits = sum(np.bitwise_count(words[..., each]).sum(axis=1, dtype=np.int64) for each in (first, second))
    near = (TENTH * differing <= bits).all(axis=0)
    share = differing.sum(axis=0) / bits.sum(axis=0)
    return list(zip(share[near].tolist(), first[near].tolist(), second[near].tolist(), strict=True))
