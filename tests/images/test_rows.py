import fcntl
import os
import shutil
from pathlib import Path
from typing import IO

import numpy as np
import pytest

from imil_backend.images.row_store import RowStore, remove_rows, remove_store, removed_stores

KEYS = [bytes([number] * 32) for number in range(4)]


@pytest.fixture
def store(tmp_path: Path) -> RowStore:
    """Two rows, of the first two keys."""
    store = RowStore(tmp_path / "store", "rows.u8", np.uint8, (3,))
    with store.writing():
        for number, key in enumerate(KEYS[:2]):
            store.append(key, np.full(3, number, np.uint8))
    return store


def test_a_store_with_such_rows_is_removed_and_what_is_mapped_stays(store: RowStore):
    mapped = store.rows
    assert remove_rows(store.directory, set(KEYS[1:]))
    assert not store.directory.exists()
    assert mapped.tolist() == [[0] * 3, [1] * 3]


def test_a_store_of_other_rows_stays(store: RowStore):
    assert not remove_rows(store.directory, set(KEYS[2:]))
    assert len(store.rows) == 2


def test_a_store_that_is_being_written_stays(store: RowStore):
    with store.writing():
        assert not remove_rows(store.directory, set(KEYS))
    assert len(store.rows) == 2


def test_where_there_is_no_store_nothing_is_removed(tmp_path: Path):
    assert not remove_rows(tmp_path / "store", set(KEYS))


def test_whoever_waits_for_a_store_that_is_removed_writes_to_a_new_one(
    store: RowStore, monkeypatch: pytest.MonkeyPatch
):
    take, aside = fcntl.flock, store.directory.with_name("aside")

    def wait(lock: IO[str], how: int) -> None:
        if not aside.exists():  # another process had the lock, and removed the store
            store.directory.rename(aside)
        take(lock, how)

    monkeypatch.setattr(fcntl, "flock", wait)
    with store.writing():
        store.append(KEYS[0], np.full(3, 7, np.uint8))
    assert store.rows.tolist() == [[7] * 3]


def test_a_store_is_removed_whatever_is_in_it_unless_it_is_being_written(store: RowStore):
    with store.writing():
        assert not remove_store(store.directory)
    assert remove_store(store.directory)
    assert not remove_store(store.directory)
    assert list(store.directory.parent.iterdir()) == []


def test_what_a_killed_removal_has_left_is_found(store: RowStore, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shutil, "rmtree", lambda _: os._exit(9))
    if (child := os.fork()) == 0:
        remove_store(store.directory)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    (left,) = removed_stores(store.directory.parent)
    assert (left / "rows.u8").exists()
