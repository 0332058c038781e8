from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from imil_backend.server import connections
from imil_backend.server.connections import GRACE_SECONDS, Waiting


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(connections, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


class FakeConnection:
    def __init__(self, address: str) -> None:
        self.address = address
        self.is_open = True
        self.transport = self

    def abort(self) -> None:
        self.is_open = False


def still_open(found: list[Any]) -> list[int]:
    return [number for number, each in enumerate(found) if each.is_open]


def test_of_one_address_the_oldest_gives_way_unless_it_has_only_come(clock: SimpleNamespace) -> None:
    waiting = Waiting(per_address=2, at_once=100)
    found = [FakeConnection("a") for _ in range(5)] + [FakeConnection("b")]
    for each in found[:4]:
        waiting.add(each)
    assert still_open(found) == [0, 1, 2, 3, 4, 5]
    clock.now += GRACE_SECONDS
    waiting.add(found[5])
    assert still_open(found) == [0, 1, 2, 3, 4, 5]
    waiting.add(found[4])
    assert still_open(found) == [3, 4, 5]
    assert len(waiting) == 3


def test_of_all_addresses_the_oldest_gives_way(clock: SimpleNamespace) -> None:
    waiting = Waiting(per_address=2, at_once=3)
    found = [FakeConnection(str(number)) for number in range(5)]
    for each in found:
        waiting.add(each)
    assert still_open(found) == [2, 3, 4]


def test_what_waits_no_more_does_not_count(clock: SimpleNamespace) -> None:
    waiting = Waiting(per_address=1, at_once=1)
    first, second = FakeConnection("a"), FakeConnection("a")
    waiting.add(first)
    waiting.remove(first)
    waiting.remove(first)
    clock.now += GRACE_SECONDS
    waiting.add(second)
    assert still_open([first, second]) == [0, 1]
    assert len(waiting) == 1
