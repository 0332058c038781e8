"""Writes the dashboard as files that are looked at without a server: the same views and templates."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from flask import Flask
from flask.testing import FlaskClient

from imil_backend.errors import ImageError, MaskError, NotFoundError, SettingsError, StoreError
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.dashboard.datasets import datasets
from imil_backend.loop.dashboard.samples.in_rounds import samples_in_rounds
from imil_backend.server.dashboard.blueprint import add_dashboard
from imil_backend.server.dashboard.layout import PREFIX
from imil_backend.server.dashboard.static_copy import EXTENSION, START, StaticCopy
from imil_backend.store.tables import now

MARK = "imil-dashboard.json"  # tells a copy from other directories
_ALL = (START, "machine.html", "assets", "datasets", MARK)  # what a copy consists of

_FIRST = f"{PREFIX}/"

Progress = Callable[[str, int, int], None]  # what, done, total


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        start: the page to open.
        pages: how many.
        pictures: how many, styles included.
        left_out: pictures that could not be made, with the reasons.
    """

    start: Path
    pages: int
    pictures: int
    left_out: tuple[tuple[str, str], ...]


def write_copy(
    backend: Backend, directory: Path, *, dataset_id: int | None = None, progress: Progress | None = None
) -> Written:
    """Write the dashboard to a directory, in the place of an earlier copy.

    The start page is written last: a copy without it is not complete.

    Args:
        backend: the store and the files.
        directory: created if missing.
        dataset_id: the only dataset that is shown; all without it.
        progress: is told how far it is.

    Raises:
        SettingsError: the directory holds something that is no copy of the dashboard.
        StoreError: it cannot be written, or a file that a page is made of cannot be read.
    """
    with _writing(directory):
        _make_room(directory)
    return _write(backend, directory, dataset_id, progress or (lambda *_: None))


@contextmanager
def _writing(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(f"{directory} cannot be written: {error.strerror}. Is the disk full?") from error


def _make_room(directory: Path) -> None:
    """Remove an earlier copy, but nothing else that lies there, and mark the directory as a copy's."""
    if directory.is_dir() and any(directory.iterdir()) and not (directory / MARK).is_file():
        raise SettingsError(
            f"{directory} is not empty, and no earlier copy of the dashboard: it has no {MARK}. Name a new "
            "or empty directory."
        )
    directory.mkdir(parents=True, exist_ok=True)
    for path in (directory / name for name in _ALL):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _write(backend: Backend, directory: Path, dataset_id: int | None, progress: Progress) -> Written:
    wanted = _copy_of(backend, dataset_id)
    told = {"made": wanted.made.isoformat(timespec="seconds"), "by": "imil dashboard --static"}
    _put(directory, MARK, f"{json.dumps(told, indent=1)}\n".encode())
    visitor = _visitor(_without_names(backend), wanted)
    start, left_out = _page(visitor, _FIRST), []
    for done, (address, file) in enumerate(_growing(wanted.pages), start=1):
        if address != _FIRST:
            _put(directory, file, _page(visitor, address))
        progress("Pages", done, len(wanted.pages))
    for done, (address, file) in enumerate(wanted.others.items(), start=1):
        try:
            picture = _asked(visitor, address)
        except (ImageError, MaskError, NotFoundError, OSError) as error:  # the page says what there would be
            left_out.append((file.removeprefix(_FIRST), str(error)))
        else:
            _put(directory, file, picture)
        progress("Pictures", done, len(wanted.others))
    _put(directory, wanted.pages[_FIRST], start)
    return Written(directory / START, len(wanted.pages), len(wanted.others) - len(left_out), tuple(left_out))


def _copy_of(backend: Backend, dataset_id: int | None) -> StaticCopy:
    shown = [each.id for each in datasets(backend) if dataset_id in {None, each.id}]
    return StaticCopy(
        made=now(),
        datasets=frozenset(shown),
        whole=dataset_id is None,
        listed={number: samples_in_rounds(backend, number) for number in shown},
    )


def _without_names(backend: Backend) -> Backend:
    """The same, with letters for annotators: files outlive an erasure."""
    same = copy.copy(backend)
    same.settings = backend.settings.model_copy(update={"dashboard_names": False})
    return same


def _visitor(backend: Backend, wanted: StaticCopy) -> FlaskClient:
    """Asks for pages within this process, as nobody has to be let in."""
    app = Flask("imil_backend.server", static_folder=None)
    app.config["PROPAGATE_EXCEPTIONS"] = True
    app.extensions[EXTENSION] = wanted
    add_dashboard(app, backend)
    return app.test_client()


def _page(visitor: FlaskClient, address: str) -> bytes:
    try:
        return _asked(visitor, address)
    except OSError as error:
        raise StoreError(
            f"{address} of the dashboard cannot be made: {error.filename} cannot be read ({error.strerror})."
        ) from error


def _asked(visitor: FlaskClient, address: str) -> bytes:
    answer = visitor.get(address)
    if answer.status_code != HTTPStatus.OK:
        raise NotFoundError(f"{address} of the dashboard answered {answer.status}.")
    return bytes(answer.data)


def _growing(pages: dict[str, str]) -> Iterable[tuple[str, str]]:
    """All pages, those too that are linked to meanwhile."""
    done: set[str] = set()
    while todo := [each for each in pages.items() if each[0] not in done]:
        for address, file in todo:
            yield address, file
            done.add(address)


def _put(directory: Path, file: str, data: bytes) -> None:
    path = directory / file.removeprefix(_FIRST)
    with _writing(directory):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
