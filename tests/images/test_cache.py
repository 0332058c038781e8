import hashlib
import multiprocessing
import os
import resource
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imil_backend.errors import CacheError
from imil_backend.images.cache import CachedItem, PixelCache
from imil_backend.images.masks.masks import mask_to_png

SIZE = 16
ENTRY_BYTES = 48


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def make_cache(directory: Path, channels: int = 1, size: int = SIZE) -> PixelCache:
    return PixelCache(directory, size, channels, max_bytes=2**24, max_pixels=10**7)


def make_item(directory: Path, number: int, shape: tuple[int, ...] = (45, 61)) -> CachedItem:
    path = directory / f"{number}.png"
    Image.fromarray(np.random.default_rng(number).integers(0, 256, shape, np.uint8)).save(path)
    return CachedItem(path, sha256(path))


def with_mask(item: CachedItem, mask: np.ndarray, fill: str = "black") -> CachedItem:
    path = item.image.with_suffix(".mask.png")
    path.write_bytes(mask_to_png(mask))
    return CachedItem(item.image, item.sha256, path, sha256(path), fill)


def expected(item: CachedItem, size: int = SIZE) -> np.ndarray:
    with Image.open(item.image) as image:
        return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))


def rows_of(cache: PixelCache, items: list[CachedItem]) -> np.ndarray:
    rows = cache.fill(items)
    assert cache.failures == []
    return cache.pixels[rows]


@pytest.fixture
def items(tmp_path):
    return [make_item(tmp_path, number) for number in range(12)]


@pytest.fixture
def cache(tmp_path):
    return make_cache(tmp_path / "cache")


def entries(cache: PixelCache) -> int:
    return cache._store.index_file.stat().st_size // ENTRY_BYTES


def assert_right(cache: PixelCache, items: list[CachedItem], rows: np.ndarray) -> None:
    for item, row in zip(items, rows, strict=True):
        assert np.array_equal(cache.pixels[row, ..., 0], expected(item))


def test_rows_equal_pillows_resize_in_any_order(cache, items):
    rows = cache.fill(items)
    assert rows.dtype == np.int64
    assert cache.pixels.shape == (12, SIZE, SIZE, 1)
    assert_right(cache, items, rows)
    assert np.array_equal(cache.fill(items[::-1]), rows[::-1])


def test_nothing_is_made_twice(cache, items):
    calls = []
    first = cache.fill(items + items, lambda done, total: calls.append((done, total)))
    assert calls == [(done, 12) for done in range(1, 13)]
    assert np.array_equal(first[:12], first[12:])
    calls.clear()
    again = make_cache(cache._store.rows_file.parents[1]).fill(items, lambda *call: calls.append(call))
    assert np.array_equal(again, first[:12]) and not calls


def test_pixels_are_read_only_and_empty_at_first(cache, items):
    assert cache.pixels.shape == (0, SIZE, SIZE, 1)
    cache.fill(items)
    with pytest.raises(ValueError, match="read-only"):
        cache.pixels[0] = 1


def test_channels_are_expanded_or_merged(tmp_path, items):
    colour = make_item(tmp_path, 99, (45, 61, 3))
    three = make_cache(tmp_path / "cache", channels=3)
    rows = three.fill([items[0], colour])
    grey_row, colour_row = three.pixels[rows]
    assert np.array_equal(grey_row, np.dstack([expected(items[0])] * 3))
    assert np.array_equal(colour_row, expected(colour))
    one = make_cache(tmp_path / "cache", channels=1)
    with Image.open(colour.image) as image:
        merged = image.convert("L").resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    assert np.array_equal(rows_of(one, [colour])[0, ..., 0], merged)


@pytest.mark.parametrize("shape", [(61, 45), (333, 517), (17, 16), (7, 90)])
def test_no_bright_pixel_bleeds_out_from_under_the_mask(tmp_path, cache, shape):
    pixels = np.full(shape, 60, np.uint8)
    mask = np.zeros(shape, bool)
    mask[shape[0] // 3 : shape[0] // 2 + 1, shape[1] // 4 : shape[1] // 2 + 1] = True
    pixels[mask] = 255  # a marker, exactly under the mask
    path = tmp_path / "marker.png"
    Image.fromarray(pixels).save(path)
    item = CachedItem(path, sha256(path))
    blacked_out = with_mask(item, mask)
    original, cleaned = rows_of(cache, [item, blacked_out])
    assert original.max() > 100
    assert cleaned.max() <= 60


def test_blacked_out_jpeg_is_decoded_in_full(tmp_path, cache):
    pixels = np.full((801, 641), 60, np.uint8)
    pixels[301:420, 200:333] = 255
    path = tmp_path / "marker.jpg"
    Image.fromarray(pixels).save(path, quality=95)
    mask = np.zeros(pixels.shape, bool)
    mask[296:424, 192:336] = True  # the JPEG blocks that the marker touches
    cleaned = rows_of(cache, [with_mask(CachedItem(path, sha256(path)), mask)])[0]
    assert cleaned.max() <= 62


def test_mask_and_fill_have_rows_of_their_own(cache, items):
    mask = np.zeros((45, 61), bool)
    mask[:20] = True
    other = mask.copy()
    other[:30] = True
    masked, mean = with_mask(items[0], mask), with_mask(items[0], mask, "mean")
    first = cache.fill([items[0], masked, mean])
    assert len(set(first)) == 3
    changed = with_mask(items[0], other)
    assert cache.fill([changed])[0] not in first


def test_one_bad_image_does_not_stop_the_rest(tmp_path, cache, items):
    broken = tmp_path / "broken.png"
    broken.write_bytes(items[0].image.read_bytes()[:500])
    changed = CachedItem(items[1].image, "0" * 64)
    wrong_mask = with_mask(items[2], np.zeros((9, 9), bool))
    batch = [items[3], CachedItem(broken, sha256(broken)), changed, wrong_mask, items[4]]
    rows = cache.fill(batch)
    assert (rows == -1).tolist() == [False, True, True, True, False]
    indices, reasons = zip(*cache.failures, strict=True)
    assert indices == (1, 2, 3)
    assert "broken.png is truncated" in reasons[0]
    assert "1.png is not the file that was imported" in reasons[1]
    assert "9" in reasons[2] and "61" in reasons[2]
    assert_right(cache, [items[3], items[4]], rows[[0, 4]])
    cache.fill(items[:1])
    assert cache.failures == []


def test_damaged_pixels_are_noticed_and_made_again(cache, items, caplog):
    rows = cache.fill(items)
    data = bytearray(cache._store.rows_file.read_bytes())
    data[int(rows[5]) * SIZE * SIZE + 7] ^= 1
    cache._store.rows_file.write_bytes(data)
    again = cache.fill(items)
    assert again[5] == 12
    assert np.array_equal(np.delete(again, 5), np.delete(rows, 5))
    assert_right(cache, items, again)
    assert "1 damaged" in caplog.text


def test_damaged_index_is_noticed_and_made_again(cache, items):
    rows = cache.fill(items)
    data = bytearray(cache._store.index_file.read_bytes())
    data[3 * ENTRY_BYTES + 33] ^= 1  # the row number of the fourth entry
    cache._store.index_file.write_bytes(data)
    again = cache.fill(items)
    assert np.flatnonzero(again != rows).tolist() == [3]
    assert_right(cache, items, again)


@pytest.mark.parametrize("lost", ["index_file", "rows_file"])
def test_lost_file_is_made_again(cache, items, lost):
    cache.fill(items)
    getattr(cache._store, lost).unlink()
    assert_right(cache, items, cache.fill(items))


def test_killed_in_the_middle_of_a_row_or_an_entry(cache, items):
    first = cache.fill(items[:6])
    with cache._store.rows_file.open("ab") as file:
        file.write(b"\xff" * 100)
    with cache._store.index_file.open("ab") as file:
        file.write(b"\xff" * 20)
    rows = cache.fill(items)
    assert np.array_equal(rows[:6], first)
    assert_right(cache, items, rows)
    assert entries(cache) == 12


def fill_and_die(directory: Path, items: list[CachedItem], after: int) -> None:
    def die(done: int, _: int) -> None:
        if done == after:
            os.kill(os.getpid(), signal.SIGKILL)

    make_cache(directory).fill(items, die)


def fill(directory: Path, items: list[CachedItem]) -> None:
    make_cache(directory).fill(items)


def run(target, *arguments) -> multiprocessing.Process:
    process = multiprocessing.get_context("spawn").Process(target=target, args=arguments)
    process.start()
    return process


@pytest.mark.slow
def test_killed_process_leaves_whole_rows_and_no_lock(tmp_path, cache, items):
    process = run(fill_and_die, tmp_path / "cache", items, 7)
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert entries(cache) == 7
    made = []
    rows = cache.fill(items, lambda *call: made.append(call))
    assert len(made) == 5
    assert_right(cache, items, rows)


@pytest.mark.slow
def test_two_processes_share_the_work_and_never_a_row(tmp_path, cache, items):
    processes = [run(fill, tmp_path / "cache", part) for part in (items, items[::-1])]
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert entries(cache) == 12
    assert_right(cache, items, cache.fill(items))


def test_second_filler_waits_for_the_first(tmp_path, items):
    started, go_on = threading.Event(), threading.Event()

    def hold(done: int, _: int) -> None:
        started.set()
        assert go_on.wait(30)

    first = threading.Thread(target=lambda: make_cache(tmp_path / "cache").fill(items, hold))
    first.start()
    assert started.wait(30)
    made = []
    second = threading.Thread(
        target=lambda: make_cache(tmp_path / "cache").fill(items, lambda *call: made.append(call))
    )
    second.start()
    go_on.set()
    first.join(30)
    second.join(30)
    assert made == []


def test_reader_keeps_its_rows_while_the_cache_grows(cache, items):
    rows = cache.fill(items[:6])
    mapped = cache.pixels
    before = mapped[rows].copy()
    cache.fill(items)
    assert np.array_equal(mapped[rows], before)


def test_unwritable_directory_is_told(tmp_path, items):
    (tmp_path / "file").touch()
    with pytest.raises(CacheError, match="cannot be written"):
        make_cache(tmp_path / "file").fill(items)


def test_full_disk_is_told_and_leaves_whole_rows(cache, items):
    rows = cache.fill(items[:3])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5 * SIZE * SIZE + 100, hard))
    try:
        with pytest.raises(CacheError, match="cannot be written: File too large"):
            cache.fill(items)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert entries(cache) == 5
    again = cache.fill(items)
    assert np.array_equal(again[:3], rows)
    assert_right(cache, items, again)


def test_interrupted_fill_keeps_what_was_made(cache, items):
    def stop(done: int, _: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.fill(items, stop)
    assert entries(cache) == 4
    assert_right(cache, items, cache.fill(items))
