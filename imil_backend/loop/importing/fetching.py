"""Images fetched from the URLs in Label Studio's tasks, each stored once, under the hash of its content."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

from sqlalchemy import select

from imil_backend.errors import ImageError, LabelStudioError, NotFoundError, UnreadableImageError
from imil_backend.files import write_atomically
from imil_backend.images.reading import image_format
from imil_backend.loop.base.backend import Backend
from imil_backend.store.tables import FetchedImage

FETCHERS = 4  # Label Studio's own server does not answer faster to more
BATCH = 64  # what is fetched again after a crash, at the most


def fetch_images(
    backend: Backend,
    project: int,
    addresses: Sequence[str],
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Path | str]:
    """For each URL, in order, the file of its image, or the reason why there is none.

    Nothing is fetched twice, so it resumes after a crash. Memory holds a few images.

    Args:
        backend: the store, the files and Label Studio.
        project: of Label Studio, whose tasks name the addresses.
        addresses: as in the tasks.
        progress: called with the number of addresses done, and of all.

    Raises:
        LabelStudioError: Label Studio itself cannot be reached any more, or refuses the token.
    """
    done = 0
    waiting = iter(addresses)
    with ThreadPoolExecutor(FETCHERS) as pool:
        while batch := list(islice(waiting, BATCH)):
            known = _known(backend, batch)
            unknown = [address for address in dict.fromkeys(batch) if address not in known]
            found = dict(
                zip(unknown, pool.map(lambda each: _fetch(backend, project, each), unknown), strict=True)
            )
            _note(backend, {address: path for address, path in found.items() if isinstance(path, Path)})
            yield from ((known | found)[address] for address in batch)
            done += len(batch)
            if progress:
                progress(done, len(addresses))


def keep_image(backend: Backend, content: bytes) -> Path:
    """Store an image's content, and return where.

    Raises:
        UnreadableImageError: it is not an image, whatever its server calls it.
    """
    if image_format(content) is None:
        shown = " but a web page" if content.lstrip()[:1] == b"<" else ""
        raise UnreadableImageError(f"What is at its URL is not a readable image{shown}.")
    path = _path(backend, hashlib.sha256(content).hexdigest())
    if not path.exists():
        write_atomically(path, content)
    return path


def _path(backend: Backend, sha256: str) -> Path:
    return backend.path("images", sha256[:2], sha256)


def _key(backend: Backend, address: str) -> str:
    """Of an address; a path is one of this Label Studio."""
    return hashlib.sha256(f"{backend.settings.label_studio_url}\0{address}".encode()).hexdigest()


def _known(backend: Backend, addresses: Sequence[str]) -> dict[str, Path | str]:
    keys = {_key(backend, address): address for address in addresses}
    with backend.store.begin() as session:
        rows = session.scalars(select(FetchedImage).where(FetchedImage.address_sha256.in_(keys)))
        paths = {keys[row.address_sha256]: _path(backend, row.sha256) for row in rows}
    return {address: path for address, path in paths.items() if path.exists()}


def _note(backend: Backend, found: dict[str, Path]) -> None:
    with backend.store.begin() as session:
        for address, path in found.items():
            session.merge(FetchedImage(address_sha256=_key(backend, address), sha256=path.name))


def _fetch(backend: Backend, project: int, address: str) -> Path | str:
    try:
        return keep_image(backend, backend.label_studio.download(address))
    except (ImageError, NotFoundError) as error:
        return str(error)
    except LabelStudioError as error:
        # Of one image, or of Label Studio as a whole? Then this is raised, and nothing is set aside for it.
        backend.label_studio.project(project)
        return str(error)
