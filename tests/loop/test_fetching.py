from __future__ import annotations

from pathlib import Path

import pytest
from support.push import png

from imil_backend.errors import ImageError, LabelStudioUnreachableError
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.importing import fetching
from imil_backend.loop.importing.fetching import fetch_images

ADDRESSES = [f"/data/upload/1/{number}.png" for number in range(6)]


class FakeDownloads:
    """Serves `png(seed=number)` until it dies, or something else where `answers` says so."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.lives_for = 10**6
        self.answers: dict[str, bytes | Exception] = {}

    def download(self, address: str) -> bytes:
        self.asked.append(address)
        self._check()
        answer = self.answers.get(address) or png(seed=int(Path(address).stem))
        if isinstance(answer, Exception):
            raise answer
        return answer

    def project(self, number: int) -> None:
        self._check()

    def _check(self) -> None:
        if len(self.asked) > self.lives_for:
            raise LabelStudioUnreachableError("no connection")


@pytest.fixture
def downloads(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> FakeDownloads:
    monkeypatch.setattr(fetching, "BATCH", 2)
    monkeypatch.setattr(fetching, "FETCHERS", 1)
    downloads = FakeDownloads()
    backend.__dict__["label_studio"] = downloads
    return downloads


def test_images_are_kept_by_their_content(backend: Backend, downloads: FakeDownloads) -> None:
    downloads.answers["/data/upload/1/5.png"] = png(seed=0)
    files = list(fetch_images(backend, 1, ADDRESSES))
    assert [path.read_bytes() for path in files if isinstance(path, Path)] == [
        png(seed=number) for number in (0, 1, 2, 3, 4, 0)
    ]
    assert files[0] == files[5]


def test_after_a_crash_no_image_is_fetched_twice_but_those_of_the_last_batch(
    backend: Backend, downloads: FakeDownloads
) -> None:
    downloads.lives_for = 3
    with pytest.raises(LabelStudioUnreachableError):
        list(fetch_images(backend, 1, ADDRESSES))
    downloads.lives_for = 10**6
    downloads.asked.clear()
    assert all(isinstance(path, Path) for path in fetch_images(backend, 1, ADDRESSES))
    assert downloads.asked == ADDRESSES[2:]
    downloads.asked.clear()
    list(fetch_images(backend, 1, ADDRESSES))
    assert downloads.asked == []


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"<html>log in</html>", "not a readable image but a web page"),
        (b"GIF89a", "not a readable image"),
        (ImageError("refused"), "refused"),
        (LabelStudioUnreachableError("500 to this image"), "500"),
    ],
)
def test_one_bad_image_is_told_and_the_rest_goes_on(
    backend: Backend, downloads: FakeDownloads, answer: bytes | Exception, words: str
) -> None:
    downloads.answers[ADDRESSES[2]] = answer
    files = list(fetch_images(backend, 1, ADDRESSES))
    assert [number for number, file in enumerate(files) if isinstance(file, str)] == [2]
    assert words in str(files[2])


def test_a_file_that_was_lost_is_fetched_again(backend: Backend, downloads: FakeDownloads) -> None:
    (file,) = fetch_images(backend, 1, ADDRESSES[:1])
    assert isinstance(file, Path)
    file.unlink()
    assert list(fetch_images(backend, 1, ADDRESSES[:1])) == [file]
    assert file.read_bytes() == png(seed=0)
