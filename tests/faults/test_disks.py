"""A disk that is full, and files that were damaged."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from faults_scene import Scene, start
from support.label_studio import missing

pytestmark = [pytest.mark.label_studio, pytest.mark.training, pytest.mark.faults, pytest.mark.timeout(600)]

DISK = 600 * 2**20  # bytes; holds two trainings


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of DISK bytes, mounted where a scene called "disk" has its data."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        missing("The right to mount a small disk", "running as root")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def full(disk: Path, room: int = 0) -> Iterator[None]:
    """No room on the disk but for so many bytes."""
    filler = disk / "filler"
    with filler.open("wb") as file:
        status = os.statvfs(disk)
        os.posix_fallocate(file.fileno(), 0, max(1, status.f_bavail * status.f_frsize - room))
    yield
    filler.unlink()


def test_the_disk_is_full_when_answers_come(small_disk: Path, make_scene: Callable[..., Scene]) -> None:
    scene = start(make_scene("disk"))
    with full(small_disk):  # neither the event, nor the mask, nor the answer can be written
        for task in scene.tasks:
            scene.submit(task)
        time.sleep(3)  # nothing to wait for: nothing can happen
    scene.settle(scene.is_over)
    scene.check("disk full at the database and the mask")


def test_the_disk_is_full_at_the_checkpoint(small_disk: Path, make_scene: Callable[..., Scene]) -> None:
    scene = start(make_scene("disk"))
    with full(small_disk, room=40 * 2**20):  # less than a checkpoint, enough for all else
        for task in scene.tasks:
            scene.submit(task)
        scene.settle(lambda: scene.state() == "failed")
    status = scene.installation.status()
    assert "space" in status["round"]["error"]
    scene.installation.imil("train")  # a person has it tried again
    scene.settle(scene.is_over)
    scene.check("disk full at the checkpoint")


def stopped_in_training(scene: Scene) -> Path:
    """Answer all tasks, kill everything once there is a checkpoint; the training's directory."""
    for task in scene.tasks:
        scene.submit(task)
    versions = scene.installation.data_dir / "versions"
    scene.settle(lambda: any(versions.glob("*round1*/checkpoint.pt")) or scene.state() == "closed")
    scene.installation.kill()
    return next(versions.glob("*round1*"))


def test_the_checkpoint_is_cut_off(scene: Scene) -> None:
    checkpoint = stopped_in_training(scene) / "checkpoint.pt"
    os.truncate(checkpoint, checkpoint.stat().st_size // 2)
    scene.settle(scene.is_over)
    scene.check("checkpoint cut off")


def test_bytes_of_the_cache_are_flipped(scene: Scene) -> None:
    for file in (scene.installation.data_dir / "cache").rglob("*"):
        if file.is_file() and file.stat().st_size:
            flip(file)
    for task in scene.tasks:
        scene.submit(task)
    scene.settle(scene.is_over)
    scene.check("cache flipped")


def flip(file: Path) -> None:
    size = file.stat().st_size
    with file.open("r+b") as content:
        content.seek(size // 2)
        flipped = bytes(byte ^ 0xFF for byte in content.read(64))
        content.seek(size // 2)
        content.write(flipped)
