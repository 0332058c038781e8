import time
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from imil_backend.batching import BatchedCalls


class Network:
    """Doubles its items; the first call waits until it may go on. 13 cannot be computed."""

    def __init__(self) -> None:
        self.seen: list[int] = []
        self.begun, self.go_on = Event(), Event()

    def __call__(self, items: list[int]) -> list[int]:
        self.seen.append(len(items))
        self.begun.set()
        assert self.go_on.wait(20)
        if 13 in items:
            raise ValueError("thirteen")
        return [2 * item for item in items]


def waiting(joined: BatchedCalls[int, int], count: int) -> None:
    while len(joined._waiting) < count:
        time.sleep(0)


def test_calls_that_arrive_while_one_is_computed_are_computed_together():
    network = Network()
    joined = BatchedCalls(network)
    with ThreadPoolExecutor(5) as pool:
        first = pool.submit(joined, [1])
        assert network.begun.wait(20)
        others = [pool.submit(joined, range(number, number + 3)) for number in (20, 30, 40)]
        waiting(joined, 3)
        network.go_on.set()
        assert first.result() == [2]
        assert [other.result() for other in others] == [[40, 42, 44], [60, 62, 64], [80, 82, 84]]
    assert network.seen == [1, 9]


def test_an_error_stays_with_the_call_that_caused_it():
    network = Network()
    joined = BatchedCalls(network)
    with ThreadPoolExecutor(5) as pool:
        first = pool.submit(joined, [1])
        assert network.begun.wait(20)
        good, bad = pool.submit(joined, [2]), pool.submit(joined, [13])
        waiting(joined, 2)
        network.go_on.set()
        assert (first.result()[0], good.result()[0]) == (2, 4)
        with pytest.raises(ValueError, match="thirteen"):
            bad.result()
