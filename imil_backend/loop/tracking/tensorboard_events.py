"""Trainings as event files of TensorBoard, without torch and TensorFlow."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.text.summary_v2 import text_pb
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from imil_backend.loop.tracking.trackers import Run, Values


class EventFiles:
    """Event files in a folder of the version's name; each attempt takes the place of earlier ones."""

    def __init__(self, folder: Path) -> None:
        """`folder` is TensorBoard's `--logdir`."""
        self._top = folder

    def begin(self, run: Run) -> None:
        """Make the version's folder, with the parameters as a text."""
        self._folder, self._run = self._top / run.name, run
        self._earlier = list(self._folder.glob("events.out.tfevents.*"))
        self._writer = self._new_writer()

    def epoch(self, number: int, values: Values) -> None:
        """Write the values of an epoch."""
        self._write(number, values)
        self._writer.flush()

    def end(self, epochs: Mapping[int, Values], final: Values, version: Path) -> None:
        """Write all epochs into one file, which takes the place of those that were written on the way."""
        self._writer.close()
        on_the_way = list(self._folder.glob("events.out.tfevents.*"))
        self._writer = self._new_writer(".whole")
        for number, values in sorted(epochs.items()):
            self._write(number, values)
        self._write(max(epochs, default=0), final)
        self._writer.close()
        for path in on_the_way:
            path.unlink()

    def _new_writer(self, suffix: str = "") -> EventFileWriter:
        writer = EventFileWriter(str(self._folder), filename_suffix=suffix)
        parameters = json.dumps({"dataset": self._run.dataset, **self._run.parameters}, indent=1, default=str)
        writer.add_event(Event(wall_time=time.time(), step=0, summary=text_pb("recipe", parameters)))
        return writer

    def _write(self, step: int, values: Values) -> None:
        summary = Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()])
        self._writer.add_event(Event(wall_time=time.time(), step=step, summary=summary))
