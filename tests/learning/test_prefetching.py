"""Batches on their way to a device. Streams are CUDA's and not run here; what they carry, and when, is."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from imil_backend.learning.inputs import prefetching
from imil_backend.learning.inputs.augmentation import prepare
from imil_backend.learning.inputs.data import LoadedSplits, SampleSet
from imil_backend.learning.inputs.prefetching import keep_on_device, prefetch
from imil_backend.learning.networks.network import ModelConfig

CPU = torch.device("cpu")
PIECES = [np.array([4, 0, 0]), slice(1, 3), np.array([2])]


@pytest.fixture(params=["pixels", "features"])
def samples(request: pytest.FixtureRequest, tmp_path: Path) -> SampleSet:
    """Five samples, in rows 7 down to 3 of a mapped file of ten."""
    dtype = np.uint8 if request.param == "pixels" else np.uint16
    rows = np.random.default_rng(0).integers(0, 256, (10, 4, 4, 1)).astype(dtype)
    rows.tofile(tmp_path / "rows")
    mapped = np.memmap(tmp_path / "rows", dtype, "r", shape=rows.shape)
    keys = tuple("abcde")
    return SampleSet(mapped, np.arange(7, 2, -1), np.array([0, 1, 0, 1, 0]), keys, keys)


@pytest.fixture
def roomy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A device with 1,000 bytes of its own; samples are moved two at a time."""
    monkeypatch.setattr(prefetching, "_free_bytes", lambda _device: 1000)
    monkeypatch.setattr(prefetching, "_ROWS_AT_ONCE", 2)


def dataset(samples: SampleSet) -> LoadedSplits:
    return LoadedSplits({"train": samples, "test": samples.select(np.array([], np.int64))}, ())


def test_batches_come_in_order_and_the_next_is_sent_before_one_is_worked_on(samples: SampleSet):
    sent = []

    class Watched(SampleSet):
        def images(self, indices, device):
            sent.append(indices)
            return samples.images(indices, device)

    watched = Watched(samples.cached, samples.rows, samples.labels, samples.keys, samples.groups)
    for number, images in enumerate(prefetch(watched, PIECES, CPU), start=1):
        assert torch.equal(images, samples.images(PIECES[number - 1], CPU))
        assert len(sent) == min(number + 1, len(PIECES))
    assert list(prefetch(watched, [], CPU)) == []


@pytest.mark.usefixtures("roomy")
def test_a_small_dataset_is_kept_on_the_device_and_gives_the_same_batches(samples: SampleSet):
    kept = keep_on_device(dataset(samples), CPU).splits["train"]
    assert isinstance(kept.cached, torch.Tensor)
    assert len(kept.cached) == 5  # its own rows alone
    for piece, images in zip(PIECES, prefetch(kept, PIECES, CPU), strict=True):
        assert torch.equal(images, samples.images(piece, CPU))
    chosen = np.array([3, 1])
    everything = slice(None)
    assert torch.equal(kept.select(chosen).images(everything, CPU), samples.images(chosen, CPU))


@pytest.mark.usefixtures("roomy")
def test_a_dataset_of_more_than_a_quarter_of_the_free_memory_is_streamed(
    samples: SampleSet, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(prefetching, "_free_bytes", lambda _device: 4 * samples.bytes - 1)
    assert keep_on_device(dataset(samples), CPU).splits["train"] is samples


def test_the_processor_reads_the_mapped_file(samples: SampleSet):
    assert keep_on_device(dataset(samples), CPU).splits["train"] is samples


def test_a_step_copies_nothing_but_images(monkeypatch: pytest.MonkeyPatch):
    """A copy of values that are not pinned waits for the GPU: mean and deviation are copied once."""
    config = ModelConfig(("a", "b"), 8, 1, "v1.5")
    images = torch.zeros(2, 8, 8, 1, dtype=torch.uint8)
    with torch.inference_mode():
        first = prepare(images, config)
    monkeypatch.setattr(torch, "tensor", None)
    again = prepare(images, config, torch.zeros(2, 6))
    assert torch.equal(again, first)
    torch.nn.Conv2d(3, 1, 3)(again).sum().backward()


class RecordedStream:
    """Writes down, in the place of a CUDA stream, what is asked of it."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.log = name, log

    def wait_stream(self, other: "RecordedStream") -> None:
        self.log.append(f"{self.name} waits for {other.name}")

    def __enter__(self) -> None:
        self.log.append(f"on {self.name}:")

    def __exit__(self, *_: object) -> None:
        self.log.append("end")


def test_on_cuda_copies_have_a_stream_that_the_computing_one_waits_for(monkeypatch: pytest.MonkeyPatch):
    """It waits for a batch's own copy alone: the next is sent after, and runs beside the computing."""
    log: list[str] = []
    computing, copying = RecordedStream("computing", log), RecordedStream("copying", log)
    monkeypatch.setattr(torch.cuda, "Stream", lambda _device: copying)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _device: computing)

    class Images(str):
        def record_stream(self, stream: RecordedStream) -> None:
            log.append(f"{self} is kept for {stream.name}")

    class Samples:
        def images(self, piece: str, _device: torch.device) -> Images:
            log.append(f"copy {piece}")
            return Images(piece)

    for images in prefetch(Samples(), ["A", "B"], torch.device("cuda", 0)):
        log.append(f"compute {images}")
    assert log == [
        "copying waits for computing",
        *("on copying:", "copy A", "end"),
        *("computing waits for copying", "A is kept for computing"),
        *("on copying:", "copy B", "end"),
        "compute A",
        *("computing waits for copying", "B is kept for computing"),
        "compute B",
    ]
