"""The benchmarks need what a bare GPU machine has, and one of them runs; what it measures here means nothing.

The others take minutes: `python -m benchmarks --quick` runs them all.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.__main__ import BARE
from benchmarks.hands import GOOD, correction, from_nothing, repainted
from imil_backend.images.masks.masks import dice

ROOT = Path(__file__).parents[1]
GPU_MACHINE = ("torch", "torchvision", "numpy", "pillow", "safetensors")
HIDING = """
import sys
class Hiding:
    def __init__(self, finder):
        self._finder = finder
    def __getattr__(self, name):
        return getattr(self._finder, name)
    def find_spec(self, name, path=None, target=None):
        hidden = name.split(".")[0] in {hidden!r}
        return None if hidden else self._finder.find_spec(name, path, target)
sys.meta_path[:] = [Hiding(finder) for finder in sys.meta_path]
"""


@pytest.fixture(scope="session")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory which, in PYTHONPATH, hides what a bare GPU machine lacks from all processes."""
    there = _with_requirements(GPU_MACHINE)
    hidden = {
        module
        for module, names in metadata.packages_distributions().items()
        if not there & {_normal(name) for name in names} and module not in {"imil_backend", "benchmarks"}
    }
    assert {"pydantic", "sqlalchemy", "flask"} <= hidden
    directory = tmp_path_factory.mktemp("bare")
    (directory / "sitecustomize.py").write_text(HIDING.format(hidden=hidden))
    return directory


def _with_requirements(names: tuple[str, ...]) -> set[str]:
    """Distributions, and all that they require."""
    found: set[str] = set()
    left = [_normal(name) for name in names]
    while left:
        name = left.pop()
        if name in found:
            continue
        try:
            lines = metadata.requires(name) or []
        except metadata.PackageNotFoundError:  # of another platform
            continue
        found.add(name)
        left += [_normal(re.split(r"[^\w.-]", line)[0]) for line in lines if "extra ==" not in line]
    return found


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def run(*arguments: str, path: Path | None = None) -> str:
    environment = {**os.environ, "IMIL_TEST_XRAYS": ""}
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_they_need_what_a_bare_gpu_machine_has_and_no_more(bare: Path) -> None:
    modules = ", ".join(f"benchmarks.{name}" for name in (*BARE, "loops", "__main__"))
    run("-c", f"import {modules}", path=bare)


Measured = Callable[[str], list[dict[str, Any]]]


@pytest.fixture
def measured(tmp_path: Path, bare: Path) -> Measured:
    """Runs a benchmark, those that must as on a bare GPU machine, but for the GPU; its rows."""

    def measure(name: str) -> list[dict[str, Any]]:
        figures = tmp_path / "figures.json"
        path = bare if name in BARE else None
        shown = run("-m", "benchmarks", name, "--quick", "--json", str(figures), path=path)
        (report,) = json.loads(figures.read_text())["benchmarks"]
        assert report["machine"]["torch"] in shown
        assert all("phantoms (drawn)" in row["images"] for row in report["rows"])
        return list(report["rows"])

    return measure


@pytest.mark.training
def test_mining_is_measured_against_the_forward_pass_and_the_plain_loop(measured: Measured) -> None:
    (row,) = measured("mining")
    assert row["ours / forward"]["runs"] == row["ours / plain"]["runs"] == 1


def test_operators_are_told_apart_in_a_profile() -> None:
    from benchmarks.profile import OTHERS, _group

    groups = {
        "aten::convolution_backward": "convolution, backward",
        "aten::mkldnn_convolution": "convolution, forward",
        "aten::native_batch_norm_backward": "batch norm, backward",
        "aten::native_batch_norm": "batch norm, forward",
        "aten::clamp_min_": "activations and sums",
        "aten::_fused_sgd_": "optimizer",
        "aten::copy_": "copies and casts",
        "aten::empty": OTHERS,
    }
    assert {operator: _group(operator) for operator in groups} == groups


def test_a_table_with_much_to_say_of_a_row_is_turned() -> None:
    from benchmarks.report import spread, table

    wide = [{f"figure {number}": spread([1.0, 2.0, 123.4]) for number in range(10)}]
    assert table(wide).splitlines()[2] == "| figure 1 | 2 (1 to 123, n=3) |"
    assert table([{"px": 96, "rate": 0.5}]).splitlines()[2] == "| 96 | 0.5 |"


def test_scripted_hands_correct_a_mask_until_it_is_good() -> None:
    rows, columns = np.mgrid[:64, :64]
    wanted = (rows - 32) ** 2 + (columns - 32) ** 2 < 400
    proposed = np.roll(wanted, 4, axis=1)
    assert dice(proposed, wanted) < GOOD
    plan = correction(proposed, wanted, scale=3.0)
    assert plan is not None
    assert set(plan.by_label()) == {False, True}
    assert dice(repainted(proposed, plan.strokes, plan.brush / 2 / 3.0), wanted) >= GOOD
    assert plan.seconds(3.0) < from_nothing(wanted, 3.0).seconds(3.0)
