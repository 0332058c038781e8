"""Brush RLE: exact against the editor's own data and the SDK, bounded, and never crashing."""

import json
import lzma
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from imil_backend.errors import (
    MaskError,
    MaskSizeError,
    RleHeaderError,
    RleOverrunError,
    RleTruncatedError,
    RleValueError,
)
from imil_backend.images.masks import rle as codec
from imil_backend.images.masks.masks import decode_rle, encode_rle

RECORDED = Path(__file__).parents[1] / "fixtures" / "rle"
NAMES = [
    pytest.param(
        name, marks=pytest.mark.slow if "x" in name else ()
    )  # its size is in the name of a large one
    for name in sorted(path.name.removesuffix(".json.xz") for path in RECORDED.glob("*.json.xz"))
]
STROKE = "a2_1"  # a short one, on 1024 x 1024
MASKS = arrays(
    np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=40), elements=st.sampled_from([0, 7, 255])
)
SIZE_TABLES = st.tuples(*[st.integers(1, 16)] * 4)


def decode_sdk(rle):
    from label_studio_sdk.converter.brush import decode_rle

    return decode_rle(rle)


def encode_sdk(alpha):
    from label_studio_sdk.converter.brush import mask2rle

    return mask2rle(alpha)


def recorded(name):
    """The numbers of a recorded region, its width and its height."""
    region = json.loads(lzma.decompress((RECORDED / f"{name}.json.xz").read_bytes()))["result"]
    return region["value"]["rle"], region["original_width"], region["original_height"]


def pack(bits):
    padded = bits + "0" * (-len(bits) % 8)
    return [int(padded[at : at + 8], 2) for at in range(0, len(padded), 8)]


def header(words, sizes=(3, 4, 8, 16), word=8):
    return f"{words:032b}{word - 1:05b}" + "".join(f"{size - 1:04b}" for size in sizes)


@st.composite
def streams(draw, most_records=60):
    """Valid streams with runs and literals of any length, any table of sizes, any values."""
    sizes = draw(SIZE_TABLES)
    bits, words = "", 0
    for _ in range(draw(st.integers(1, most_records))):
        kind = draw(st.integers(0, 3))
        is_run = draw(st.booleans())
        count = draw(st.integers(1, min(2 ** sizes[kind], 3000 if is_run else 90)))
        values = draw(
            st.binary(min_size=1, max_size=1) if is_run else st.binary(min_size=count, max_size=count)
        )
        bits += f"{int(is_run)}{kind:02b}{count - 1:0{sizes[kind]}b}" + "".join(
            f"{value:08b}" for value in values
        )
        words += count
    rest = -words % 4
    for _ in range(rest):  # whole pixels
        bits += "000" + "0" * sizes[0] + "01010101"
    return pack(header(words + rest, sizes) + bits), (words + rest) // 4


@pytest.mark.parametrize("name", NAMES)
def test_what_the_editor_painted_is_decoded_and_encoded_exactly(name):
    rle, width, height = recorded(name)
    alpha = decode_rle(rle, width, height)
    assert (alpha.dtype, alpha.shape) == (np.uint8, (height, width))
    assert encode_rle(alpha) == rle
    picture = RECORDED / f"{name}_alpha.png"
    if picture.exists():
        assert np.array_equal(alpha, np.asarray(Image.open(picture)))


@pytest.mark.external
@pytest.mark.parametrize("name", NAMES)
def test_what_the_editor_painted_is_decoded_as_the_sdk_does(name):
    rle, width, height = recorded(name)
    alpha = decode_rle(rle, width, height)
    channels = decode_sdk(rle).reshape(height, width, 4)
    assert all(np.array_equal(alpha, channels[..., channel]) for channel in range(4))


@given(MASKS)
def test_any_mask_comes_back(alpha):
    height, width = alpha.shape
    assert np.array_equal(decode_rle(encode_rle(alpha), width, height), alpha)


@pytest.mark.external
@given(MASKS)
def test_any_mask_is_what_the_sdk_reads_and_writes(alpha):
    height, width = alpha.shape
    assert np.array_equal(decode_sdk(encode_rle(alpha)).reshape(height, width, 4)[..., 3], alpha)
    assert np.array_equal(decode_rle(encode_sdk(alpha), width, height), alpha)


RUNS = pytest.mark.parametrize("pixels", [1, 2, 3, 4, 5, 63, 64, 65, 16383, 16384, 16385, 65536, 131073])


@RUNS
def test_runs_of_every_length_come_back(pixels):
    alpha = np.full((1, pixels), 255, np.uint8)
    assert np.array_equal(decode_rle(encode_rle(alpha), pixels, 1), alpha)


@pytest.mark.external
@RUNS
def test_runs_of_every_length_are_read_by_the_sdk_and_no_longer_than_its_own(pixels):
    alpha = np.full((1, pixels), 255, np.uint8)
    rle = encode_rle(alpha)
    assert len(rle) <= len(encode_sdk(alpha))
    assert np.array_equal(decode_sdk(rle), np.full(4 * pixels, 255))


@pytest.mark.external
@given(streams())
def test_any_valid_stream_is_decoded_as_the_sdk_does(stream):
    rle, pixels = stream
    assert np.array_equal(decode_rle(rle, pixels, 1)[0], decode_sdk(rle).reshape(-1, 4)[:, 3])


@pytest.mark.external
@given(streams(), st.sampled_from([3, 5, 64]), st.sampled_from([0, 1 << 20]))
def test_chunks_meet_without_a_seam(stream, chunk, little):
    rle, pixels = stream
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec, "_CHUNK", chunk)
        patch.setattr(codec, "_LITTLE", little)
        assert np.array_equal(decode_rle(rle, pixels, 1)[0], decode_sdk(rle).reshape(-1, 4)[:, 3])


def test_a_literal_longer_than_a_chunk_is_decoded():
    values = np.random.default_rng(0).integers(0, 256, 4 * 20_000, np.uint8)
    bits = "".join(
        f"011{len(part) - 1:016b}" + "".join(f"{value:08b}" for value in part) for part in np.split(values, 2)
    )
    rle = pack(header(values.size) + bits)
    assert np.array_equal(decode_rle(rle, 200, 100).ravel(), values[3::4])


def test_bytes_are_taken_like_a_list():
    rle, width, height = recorded(STROKE)
    assert np.array_equal(decode_rle(bytes(rle), width, height), decode_rle(rle, width, height))


def test_the_padding_of_the_sdk_is_accepted():
    rle, width, height = recorded(STROKE)
    assert decode_rle([*rle, 0], width, height).any()


def test_every_truncation_is_refused():
    rle, width, height = recorded(STROKE)
    for length in range(len(rle)):
        with pytest.raises(RleTruncatedError):
            decode_rle(rle[:length], width, height)


@pytest.mark.parametrize("tail", [[1], [0, 0], [255] * 100, [0] * 5000])
def test_more_than_the_image_is_refused(tail):
    rle, width, height = recorded(STROKE)
    with pytest.raises(RleOverrunError):
        decode_rle(rle + tail, width, height)


def test_a_run_past_the_last_pixel_is_refused():
    with pytest.raises(RleOverrunError):
        decode_rle(pack(header(16) + "101" + f"{15:04b}" + "11111111" + "100" + f"{3:03b}" + "0" * 8), 2, 2)
    with pytest.raises(RleOverrunError):
        decode_rle(pack(header(16) + "110" + f"{99:08b}" + "11111111"), 2, 2)


@pytest.mark.parametrize("bad", [256, -1, 1.5, "7", None, [1], 10**30])
def test_other_than_whole_numbers_from_0_to_255_is_refused(bad):
    rle, width, height = recorded(STROKE)
    with pytest.raises(RleValueError):
        decode_rle([*rle[:100], bad, *rle[101:]], width, height)


@pytest.mark.parametrize("bad", [None, 5, 1 << 40, "AAAA", {"0": 1}, True])
def test_other_than_a_list_is_refused(bad):
    with pytest.raises(RleValueError):
        decode_rle(bad, 4, 4)


def test_words_of_another_size_are_refused():
    with pytest.raises(RleHeaderError):
        decode_rle(pack(header(64, word=16) + "1" * 100), 4, 4)


@pytest.mark.parametrize(("width", "height"), [(1024, 1023), (1023, 1024), (0, 0), (0, 5), (-4, -4)])
def test_another_size_than_the_images_is_refused(width, height):
    rle, _, _ = recorded(STROKE)
    with pytest.raises(MaskSizeError):
        decode_rle(rle, width, height)


def peak_memory(decode):
    tracemalloc.start()
    try:
        decode()
    except MaskError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak


def test_a_stream_that_declares_gigabytes_allocates_nothing():
    rle = pack(header(2**32 - 4) + ("111" + "1" * 16 + "0" * 8) * 20_000)
    assert peak_memory(lambda: decode_rle(rle, 512, 512)) < 4 * len(rle)


@pytest.mark.parametrize("name", NAMES)
def test_strokes_take_little_more_memory_than_their_alpha_channel(name):
    rle, width, height = recorded(name)
    peak = peak_memory(lambda: decode_rle(rle, width, height))
    assert peak <= width * height + 8 * len(rle) + 4096


@pytest.mark.external
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_damaged_data_raises_nothing_but_our_errors_and_takes_no_more_memory(data):
    rle, width, height = recorded(data.draw(st.sampled_from(["multi1_0", "bpl1_0", "e2"])))
    damaged = list(rle)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(5, len(damaged) - 1))
        end = at + data.draw(st.integers(0, 9))
        damaged[at:end] = data.draw(st.lists(st.integers(0, 255), max_size=12))
    # No stream, however wild, takes more than its runs at 12 bits each, and the tables of one chunk.
    bound = 2 * width * height + 64 * len(damaged) + 256 * 1024
    assert peak_memory(lambda: decode_rle(damaged, width, height)) <= bound
    try:
        alpha = decode_rle(damaged, width, height)
    except MaskError:
        return
    assert np.array_equal(alpha, decode_sdk([*damaged, 0, 0]).reshape(height, width, 4)[..., 3])


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400), SIZE_TABLES)
def test_random_bits_after_a_valid_header_raise_nothing_but_our_errors(noise, sizes):
    rle = pack(header(4 * 30 * 20, sizes)) + list(noise)
    try:
        assert decode_rle(rle, 30, 20).shape == (20, 30)
    except MaskError as error:
        assert str(error)
