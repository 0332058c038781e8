from pathlib import Path

import numpy as np
import pytest

from imil_backend.images.row_store import RowStore, remove_rows

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
