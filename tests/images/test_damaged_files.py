"""Files that are cut, flipped, overwritten and spliced: read or refused, within bounds, and nothing else."""

from __future__ import annotations

import random
import time
import tracemalloc

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.damage import DAMAGES, small_files

from imil_backend.errors import ImageError
from imil_backend.images.reading import read_sample

LIMITS = {"max_bytes": 2**20, "max_pixels": 100_000}
SECONDS = 5  # of this process's own
BYTES = 32 * LIMITS["max_pixels"] + 2**22  # deep RGBA is held twice, with its floats


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    return list(small_files(tmp_path_factory.mktemp("files")))


def test_whole_they_are_read(files: list[bytes]) -> None:
    for data in files:
        assert read_sample(data, **LIMITS).shape[:2] == (23, 31)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow warns of damage and goes on
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.randoms(use_true_random=False))
def test_damaged_they_are_read_or_refused(files: list[bytes], draw: random.Random) -> None:
    data = draw.choice(DAMAGES)(draw.choice(files), draw.choice(files), draw)
    started = time.process_time()
    tracemalloc.start()
    try:
        pixels = read_sample(data, **LIMITS)
        assert pixels.size <= 3 * LIMITS["max_pixels"]
    except ImageError as error:
        assert str(error).startswith("The image ")
    finally:
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert time.process_time() - started < SECONDS
    assert most < BYTES
