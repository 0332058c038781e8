"""Joins what several threads ask for at once, so that it is done together."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class BatchedCalls(Generic[Item, Result]):
    """Calls that arrive while one is computed wait, and are computed together in the next.

    No thread of its own: of those that wait, the first to get its turn computes for all of them.
    """

    def __init__(self, compute: Callable[[Sequence[Item]], Sequence[Result]]) -> None:
        """`compute` gives a result for each item, in order."""
        self._compute = compute
        self._waiting: list[tuple[Sequence[Item], Future[Sequence[Result]]]] = []
        self._list = threading.Lock()
        self._turn = threading.Lock()

    def __call__(self, items: Sequence[Item]) -> Sequence[Result]:
        """The results of these items alone. An error stays with the caller whose items caused it."""
        answer: Future[Sequence[Result]] = Future()
        with self._list:
            self._waiting.append((items, answer))
        with self._turn:
            if not answer.done():
                self._answer(self._take())
        return answer.result()

    def _take(self) -> list[tuple[Sequence[Item], Future[Sequence[Result]]]]:
        with self._list:
            taken, self._waiting = self._waiting, []
        return taken

    def _answer(self, calls: Sequence[tuple[Sequence[Item], Future[Sequence[Result]]]]) -> None:
        try:
            results = self._compute([item for items, _ in calls for item in items])
        except Exception as error:  # noqa: BLE001  # it goes to its caller
            if len(calls) == 1:
                calls[0][1].set_exception(error)
                return
            for call in calls:
                self._answer([call])
            return
        end = 0
        for items, answer in calls:
            begin, end = end, end + len(items)
            answer.set_result(results[begin:end])
