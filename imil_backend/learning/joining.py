"""Joins what several threads ask of a network into one pass."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[Any]


class JoinedCalls:
    """Calls that arrive while one is computed wait, and are computed together in the next.

    No thread of its own: of those that wait, the first to get its turn computes for all of them.
    """

    def __init__(self, compute: Callable[[Rows], Rows]) -> None:
        """`compute` gives a row for each row, in order."""
        self._compute = compute
        self._waiting: list[tuple[Rows, Future[Rows]]] = []
        self._list = threading.Lock()
        self._turn = threading.Lock()

    def __call__(self, rows: Rows) -> Rows:
        """The result of these rows alone. An error stays with the caller whose rows caused it."""
        answer: Future[Rows] = Future()
        with self._list:
            self._waiting.append((rows, answer))
        with self._turn:
            if not answer.done():
                self._answer(self._take())
        return answer.result()

    def _take(self) -> list[tuple[Rows, Future[Rows]]]:
        with self._list:
            taken, self._waiting = self._waiting, []
        return taken

    def _answer(self, calls: Sequence[tuple[Rows, Future[Rows]]]) -> None:
        try:
            results = self._compute(np.concatenate([rows for rows, _ in calls]))
        except Exception as error:  # noqa: BLE001  # it goes to its caller
            if len(calls) == 1:
                calls[0][1].set_exception(error)
                return
            for call in calls:
                self._answer([call])
            return
        ends = np.cumsum([len(rows) for rows, _ in calls])
        for (_, answer), own in zip(calls, np.split(results, ends[:-1]), strict=True):
            answer.set_result(own)
