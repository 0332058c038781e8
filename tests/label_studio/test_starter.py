"""scripts/label_studio.py, as far as it can fail; that it works is seen by every other test here."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from support.label_studio import STARTER, free_port


def start(executable: str, port: int, data_dir: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(STARTER), "--executable", executable, "--data-dir", str(data_dir)]
    command += ["--port", str(port), "--password", "password", "--token", "f" * 40]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.slow
def test_a_port_that_is_in_use_is_refused(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        result = start("/bin/true", taken.getsockname()[1], tmp_path)
    assert result.returncode == 1
    assert "is in use" in result.stderr


@pytest.mark.slow
def test_a_label_studio_that_ends_at_once_shows_its_last_words_without_the_token(tmp_path: Path) -> None:
    broken = tmp_path / "label-studio"
    broken.write_text('#!/bin/sh\necho "no such module"\necho "$LABEL_STUDIO_USER_TOKEN"\n')
    broken.chmod(0o755)
    result = start(str(broken), free_port(), tmp_path / "data")
    assert result.returncode == 1
    assert "no such module" in result.stderr
    assert "f" * 40 not in result.stderr + result.stdout
