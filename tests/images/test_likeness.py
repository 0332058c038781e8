from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageEnhance

from imil_backend.images.likeness import MOST_PAIRS, near_duplicates, perceptual_hash, pixels_sha256
from imil_backend.images.phantoms import write_phantoms
from imil_backend.images.reading import inspect_image


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> list[Image.Image]:
    directory = tmp_path_factory.mktemp("phantoms")
    write_phantoms(directory, 40, size=128)
    return [Image.open(path).convert("L") for path in sorted((directory / "images").iterdir())]


def hash_of(image: Image.Image) -> str:
    found = perceptual_hash(np.asarray(image))
    assert found is not None
    return found


def jpeg(image: Image.Image) -> Image.Image:
    data = io.BytesIO()
    image.save(data, "JPEG", quality=50)
    return Image.open(data)


def marked(image: Image.Image) -> Image.Image:
    image = image.copy()
    ImageDraw.Draw(image).rectangle((4, 4, 20, 14), fill=255)
    return image


CHANGED = {
    "jpeg": jpeg,
    "half": lambda image: image.resize((64, 64)),
    "twice": lambda image: image.resize((256, 256)),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.2),
    "contrast": lambda image: ImageEnhance.Contrast(image).enhance(0.7),
    "colour": lambda image: image.convert("RGB"),
    "marker": marked,
}


@pytest.mark.slow
@pytest.mark.parametrize("how", CHANGED)
def test_a_film_that_was_saved_anew_is_a_near_duplicate_of_itself_alone(
    films: list[Image.Image], how: str
) -> None:
    hashes = [hash_of(image) for image in [*films, CHANGED[how](films[7])]]
    assert near_duplicates(hashes) == [(7, len(films))]


@pytest.mark.parametrize("size", [(1, 1), (5, 3), (64, 64)])
def test_an_image_with_nothing_in_it_is_like_no_other(size: tuple[int, int]) -> None:
    assert perceptual_hash(np.full(size, 100, np.uint8)) is None
    assert near_duplicates([]) == []


@pytest.mark.slow
@given(st.lists(st.tuples(st.integers(0, 3), st.sets(st.integers(0, 511), max_size=40)), max_size=12))
def test_near_are_two_hashes_that_differ_in_a_tenth_of_their_set_bits_in_each_direction(
    made: list[tuple[int, set[int]]],
) -> None:
    hashes = np.random.default_rng(1).integers(0, 2, (4, 512), np.uint8)[[seed for seed, _ in made]]
    hashes = hashes.reshape(-1, 512)
    for bits, (_, flipped) in zip(hashes, made, strict=True):
        bits[list(flipped)] ^= 1
    wanted = set()
    for j, other in enumerate(hashes.reshape(-1, 2, 256).astype(int)):
        for i, one in enumerate(hashes.reshape(-1, 2, 256).astype(int)[:j]):
            if (10 * abs(one - other).sum(axis=1) <= (one + other).sum(axis=1)).all():
                wanted.add((i, j))
    assert set(near_duplicates([np.packbits(bits).tobytes().hex() for bits in hashes])) == wanted


@pytest.mark.slow
def test_next_to_none_is_missed_among_many() -> None:
    random = np.random.default_rng(0)
    bits = random.integers(0, 2, (20_000, 512), np.uint8)
    copies = bits[:500].copy()
    for copy in copies:  # 20 of about 128 + 128 set bits, in each direction
        for direction in (copy[:256], copy[256:]):
            direction[random.choice(256, 20, replace=False)] ^= 1
    hashes = [np.packbits(each).tobytes().hex() for each in [*bits, *copies]]
    found = set(near_duplicates(hashes))
    assert found <= {(number, 20_000 + number) for number in range(500)}
    assert len(found) >= 499


def test_the_most_alike_come_first() -> None:
    bits = np.random.default_rng(0).integers(0, 2, (2, 512), np.uint8)
    hashes = [bits[0], bits[1], bits[0].copy(), bits[1].copy()]
    hashes[2][:3] ^= 1
    hashes[3][:2] ^= 1
    assert near_duplicates([np.packbits(each).tobytes().hex() for each in hashes]) == [(1, 3), (0, 2)]


@pytest.mark.slow
def test_many_alike_end_the_search(films: list[Image.Image]) -> None:
    assert len(near_duplicates([hash_of(films[0])] * 2000)) == MOST_PAIRS


def test_the_same_pixels_are_known_however_they_are_stored(tmp_path: Path) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 32), np.uint8))
    image.save(tmp_path / "a.png")
    image.save(tmp_path / "b.png", compress_level=1, dpi=(72, 72))
    image.convert("RGB").save(tmp_path / "c.bmp")
    image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png")
    infos = [inspect_image(path, max_bytes=10**6, max_pixels=10**6) for path in sorted(tmp_path.iterdir())]
    assert len({info.sha256 for info in infos}) == 4
    assert [info.pixels_sha256 == infos[0].pixels_sha256 for info in infos] == [True, True, True, False]


def test_another_shape_of_the_same_bytes_is_another_picture() -> None:
    pixels = np.arange(24, dtype=np.uint8)
    assert pixels_sha256(pixels.reshape(4, 6)) != pixels_sha256(pixels.reshape(6, 4))
