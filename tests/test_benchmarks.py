"""The benchmarks run; what they measure here means nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
REST = ("pydantic", "rich", "typer", "sqlalchemy", "dbos", "flask", "requests")
BLOCKED = f"""
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in {REST!r}:
            raise ImportError(name + ' is not on a bare GPU machine')
sys.meta_path.insert(0, Block())
import benchmarks.training, benchmarks.mining, benchmarks.loops, benchmarks.__main__
"""


def run(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env={**os.environ, "IMIL_TEST_XRAYS": ""},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_they_need_what_a_bare_gpu_machine_has_and_no_more() -> None:
    run("-c", BLOCKED)


@pytest.mark.training
def test_mining_is_measured_against_the_forward_pass_and_the_plain_loop(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    shown = run("-m", "benchmarks", "mining", "--quick", "--json", str(figures))
    (report,) = json.loads(figures.read_text())["benchmarks"]
    (row,) = report["rows"]
    assert "phantoms (drawn)" in row["images"]
    assert row["ours / forward"]["runs"] == 1
    assert report["machine"]["torch"] in shown
