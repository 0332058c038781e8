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
ORDERS = 64
NEIGHBOURS = 16
_AT_ONCE = 1 << 15  # hashes; what is computed of them stays in the processor's cache


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

    Sorted by bits drawn by chance, hashes that differ in few bits are neighbours more often than not. Each is
    compared with its NEIGHBOURS next ones, in ORDERS orders (after Charikar, STOC 2002, and Manku et al., WWW
    2007). So the time grows with the images and not with their pairs, and next to no pair is missed. At
    MOST_PAIRS it ends: there is then something else to be looked at than pairs.
    """
    raw = np.frombuffer(bytes.fromhex("".join(hashes)), np.uint64).reshape(len(hashes), 2, WORDS)
    words = np.ascontiguousarray(raw.transpose(1, 2, 0))  # direction, word, image
    random = np.random.default_rng(0)
    found: dict[tuple[int, int], float] = {}
    for _ in range(ORDERS if len(hashes) > NEIGHBOURS + 1 else 1):  # so few are all neighbours
        order = _order(words, random)
        for one, other in _maybe_near(words[0][:, order], order):
            found |= _near(words, np.minimum(one, other), np.maximum(one, other))
            if len(found) >= MOST_PAIRS:
                return _most_alike(found)
    return _most_alike(found)


def _most_alike(found: dict[tuple[int, int], float]) -> list[tuple[int, int]]:
    return sorted(found, key=lambda pair: (found[pair], pair))[:MOST_PAIRS]


def _order(words: NDArray[np.uint64], random: np.random.Generator) -> NDArray[np.int64]:
    """The images (indices) in the order of 64 bits of their hashes, drawn by chance."""
    drawn = random.choice(2 * WORDS * 64, 64, replace=False)
    key = np.zeros(words.shape[-1], np.uint64)
    for direction, word, bit in zip(*np.unravel_index(drawn, (2, WORDS, 64)), strict=True):
        key = key << np.uint64(1) | words[direction, word] >> np.uint64(bit) & np.uint64(1)
    return np.argsort(key)


def _maybe_near(
    words: NDArray[np.uint64], order: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """The neighbours whose hashes are near in one direction or nearly.

    Args:
        words: of that direction, (words, images), in this order.
        order: the images.
    """
    allowed = np.ceil(np.bitwise_count(words).sum(axis=0) / TENTH).astype(np.uint8)
    for begin in range(0, len(order), _AT_ONCE):
        end = begin + _AT_ONCE
        for further in range(1, min(NEIGHBOURS, len(order) - begin - 1) + 1):
            one = slice(begin, min(end, len(order) - further))
            other = slice(one.start + further, one.stop + further)
            differing = sum(np.bitwise_count(word[one] ^ word[other]) for word in words)
            near = differing <= allowed[one] + allowed[other]
            yield order[one][near], order[other][near]


def _near(
    words: NDArray[np.uint64], first: NDArray[np.int64], second: NDArray[np.int64]
) -> dict[tuple[int, int], float]:
    """Those of the pairs that are near in both directions, with the share of bits that differ."""
    differing = np.bitwise_count(words[..., first] ^ words[..., second]).sum(axis=1, dtype=np.int64)
    bits = sum(np.bitwise_count(words[..., each]).sum(axis=1, dtype=np.int64) for each in (first, second))
    near = (TENTH * differing <= bits).all(axis=0)
    share = differing.sum(axis=0) / bits.sum(axis=0)
    pairs = zip(first[near].tolist(), second[near].tolist(), strict=True)
    return dict(zip(pairs, share[near].tolist(), strict=True))
