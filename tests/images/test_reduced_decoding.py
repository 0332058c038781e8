"""JPEGs that are decoded at a reduced scale come close to those decoded in full: how close is stated here.

In grey levels of 255: 0.2 in the mean where the scale divides the sides, 0.3 where it does not.
"""

import hashlib
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imil_backend.images.cache import CachedItem, PixelCache
from imil_backend.images.phantoms import write_phantoms
from imil_backend.images.reading import read_image

COUNT = 4
LIMITS = {"max_bytes": 2**26, "max_pixels": 10**8}
DIVIDED, NOT_DIVIDED = 0.2, 0.3  # 1/2 to 1/8 of the natural size
SIZES = [
    ((1024, 1024), 224, DIVIDED),
    ((2000, 2500), 224, DIVIDED),
    ((2001, 2503), 224, NOT_DIVIDED),
    ((777, 913), 96, NOT_DIVIDED),
]


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> list[Image.Image]:
    directory = tmp_path_factory.mktemp("phantoms")
    write_phantoms(directory, 40)
    return [Image.open(path) for path in sorted((directory / "images").iterdir())[:COUNT]]


@pytest.fixture(scope="module")
def xrays(xray_zip: Path) -> list[Image.Image]:
    with zipfile.ZipFile(xray_zip) as archive:
        names = sorted(name for name in archive.namelist() if "/images/" in name and not name.endswith("/"))
        chosen = names[:: len(names) // COUNT][:COUNT]
        return [Image.open(io.BytesIO(archive.read(name))).convert("L") for name in chosen]


@pytest.mark.slow
@pytest.mark.parametrize(
    "pictures",
    ["phantoms", pytest.param("xrays", marks=pytest.mark.xrays)],
    ids=["phantoms", "upscaled-xrays"],
)
@pytest.mark.parametrize(("natural", "target", "tolerance"), SIZES)
def test_a_reduced_scale_keeps_the_picture(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    pictures: str,
    natural: tuple[int, int],
    target: int,
    tolerance: float,
):
    cache = PixelCache(tmp_path / "cache", target, 1, **LIMITS)
    items = []
    for number, picture in enumerate(request.getfixturevalue(pictures)):
        path = tmp_path / f"{number}.jpg"
        picture.resize(natural, Image.Resampling.BICUBIC).save(path, quality=90)
        items.append(CachedItem(path, hashlib.sha256(path.read_bytes()).hexdigest()))
    rows = cache.fill(items)
    reduced = cache.pixels[rows][..., 0]
    assert min(read_image(items[0].image, **LIMITS, draft_size=2 * target).shape) < min(natural)
    full = [Image.open(item.image).resize((target, target), Image.Resampling.BILINEAR) for item in items]
    assert np.abs(reduced - np.stack(full).astype(float)).mean() < tolerance


@pytest.mark.parametrize("orientation", range(1, 9))
def test_what_the_decoder_adds_at_the_edge_is_cut_off_however_the_picture_lies(
    tmp_path: Path, orientation: int
):
    """61 pixels at 1/2 are 30.5: decoded as 31, of which half a pixel is not the picture's."""
    y, x = np.mgrid[0:61, 0:83]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "turned.jpg"
    Image.fromarray((2 * x + y).astype(np.uint8)).save(path, quality=98, exif=exif)
    full, reduced = (
        Image.fromarray(read_image(path, **LIMITS, draft_size=size)).resize((8, 8), Image.Resampling.BILINEAR)
        for size in (None, 30)
    )
    assert read_image(path, **LIMITS, draft_size=30).size == 30 * 41
    assert np.abs(np.asarray(full, float) - np.asarray(reduced)).max() <= 1
