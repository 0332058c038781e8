"""The networks that predict, each loaded in the background: no request waits for torch or weights."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from imil_backend.loop.base.backend import Backend
from imil_backend.loop.serving.memory import Surplus
from imil_backend.loop.versions.removed_weights import check_weights_kept
from imil_backend.store.tables import Version

if TYPE_CHECKING:
    from imil_backend.learning.inference.prediction import Predictor

logger = logging.getLogger(__name__)


class Networks:
    """One network for each dataset: the version asked for last; while that is loaded, the one before.

    Args:
        backend: whose device and cache they use.
        patient: let those who ask wait for the network instead.
    """

    def __init__(self, backend: Backend, *, patient: bool = False) -> None:
        self._backend = backend
        self._patient = patient
        self._lock = threading.Lock()
        self._loaded: dict[int, Predictor] = {}  # by dataset, as all that follow
        self._loading: dict[int, threading.Thread] = {}
        self._failed: dict[int, Exception] = {}
        self.surplus = Surplus()

    def answering(self, version: Version) -> Predictor | None:
        """The network that answers for a version's dataset at this moment; None while its first is loaded.

        Raises:
            LearningError: it could not be loaded; the next call tries again.
        """
        if not self._is_loaded(version):
            while self._patient and not (self._is_loaded(version) or version.dataset_id in self._failed):
                self.load(version).join()
            with self._lock:
                if error := self._failed.pop(version.dataset_id, None):
                    raise error
            if not self._patient:
                self.load(version)
        with self._lock:
            return self._loaded.get(version.dataset_id)

    def prepare(self, version: Version) -> None:
        """Begin to load a version, unless it is there."""
        if not self._is_loaded(version):
            self.load(version)

    def load(self, version: Version) -> threading.Thread:
        """Begin to load a version, if none of its dataset is being loaded; gives the thread that does it."""
        with self._lock:
            thread = self._loading.get(version.dataset_id)
            if thread is None:
                thread = threading.Thread(target=self._load, args=(version,), name="loading", daemon=True)
                self._loading[version.dataset_id] = thread
                thread.start()
            return thread

    def _is_loaded(self, version: Version) -> bool:
        loaded = self._loaded.get(version.dataset_id)
        return loaded is not None and loaded.config.name == version.name

    def _load(self, version: Version) -> None:
        try:
            # Read when torch is loaded: beside a busy neighbour threads that spin make a pass ten times
            # slower.
            os.environ.setdefault("OMP_WAIT_POLICY", "passive")
            from imil_backend.learning.inference.prediction import Predictor

            with self._backend.store.begin() as session:
                check_weights_kept(session, version)
            device = self._backend.settings.device
            predictor = Predictor(Path(version.directory), device, self._backend.cache)
        except Exception as error:  # noqa: BLE001 - whoever asks next is told
            logger.error("Version %s cannot be loaded: %s", version.name, error)
            with self._lock:
                self._failed[version.dataset_id] = error
        else:
            with self._lock:
                self._loaded[version.dataset_id] = predictor
        finally:
            with self._lock:
                del self._loading[version.dataset_id]
            self.surplus.give_back()  # the file's copy of the weights, and the network before
