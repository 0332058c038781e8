"""What the launcher does about a child's end, without starting a training."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_jobs import JobMaker

from imil_backend.errors import OutOfMemoryError, TrainingFailedError, WeightsError
from imil_backend.learning.child.training_process import is_out_of_memory
from imil_backend.learning.contract import launch
from imil_backend.learning.contract.supervision import NICENESS, SUPERVISOR_VARIABLE, only_training_in
from imil_backend.learning.contract.training_job import (
    ERROR_FILE,
    LAUNCH_FILE,
    RESULT_FILE,
    read_json,
    write_json,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch):
    """Replaces the child by a list of what it does at each start."""

    def script(*endings) -> list[dict]:
        settings_seen, left = [], list(endings)

        def run_child(directory: Path, _processes: int, settings: dict, *_: object) -> int:
            settings_seen.append(settings)
            return left.pop(0)(directory)

        monkeypatch.setattr(launch, "_run_child", run_child)
        return settings_seen

    return script


def fail(error: str):
    def end(directory: Path) -> int:
        write_json(directory / ERROR_FILE, {"error": error, "message": "why"})
        return 1

    return end


def succeed(directory: Path) -> int:
    write_json(directory / RESULT_FILE, {"best_epoch": 2})
    return 0


def die(_directory: Path) -> int:
    return -9


def test_out_of_memory_halves_the_micro_batch_for_good(make_job: JobMaker, scripted):
    job = make_job()
    seen = scripted(fail("OutOfMemoryError"), fail("OutOfMemoryError"), succeed)
    assert launch.run_training(job) == {"best_epoch": 2}
    assert [settings["micro_batch_size"] for settings in seen] == [8, 4, 2]
    assert read_json(job / LAUNCH_FILE)["micro_batch_size"] == 2


def test_memory_for_less_than_two_images_is_too_little(make_job: JobMaker, scripted):
    scripted(*[fail("OutOfMemoryError")] * 3)
    with pytest.raises(OutOfMemoryError, match="smaller image_size"):
        launch.run_training(make_job())


def test_a_reason_of_ours_comes_back_as_it_was_and_another_with_its_name(make_job: JobMaker, scripted):
    scripted(fail("WeightsError"), fail("ZeroDivisionError"))
    with pytest.raises(WeightsError, match="why"):
        launch.run_training(make_job())
    with pytest.raises(TrainingFailedError, match=r"ZeroDivisionError: why .*training\.log"):
        launch.run_training(make_job("other"))


def test_a_child_that_dies_without_a_reason_is_started_again_but_not_for_ever(make_job: JobMaker, scripted):
    scripted(die, die, succeed)
    assert launch.run_training(make_job()) == {"best_epoch": 2}
    scripted(die, die, die)
    with pytest.raises(TrainingFailedError, match="died 3 times"):
        launch.run_training(make_job("other"))


def test_an_end_without_a_result_is_a_failure(make_job: JobMaker, scripted):
    scripted(lambda _directory: 0)
    with pytest.raises(TrainingFailedError, match="without a result"):
        launch.run_training(make_job())


def test_every_kind_of_memory_that_runs_out_is_known():
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"))
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
    assert not is_out_of_memory(RuntimeError("shapes do not match"))


@pytest.mark.slow
def test_launching_needs_no_torch():
    contract = ("contract.launch", "contract.checks", "contract.training_job")
    modules = (*contract, "scoring.comparison", "scoring.ranking")
    imports = "".join(f"import imil_backend.learning.{name}; " for name in modules)
    code = f"import sys; {imports} sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_two_trainings_do_not_share_a_directory(tmp_path: Path):
    with (
        only_training_in(tmp_path / "lock"),
        pytest.raises(TrainingFailedError, match="Another training"),
        only_training_in(tmp_path / "lock", patience=0),
    ):
        pass
    with only_training_in(tmp_path / "lock", patience=0):
        pass


def test_a_supervised_command_dies_at_once_when_its_parent_is_gone():
    command = [
        sys.executable,
        "-m",
        "imil_backend.learning.contract.supervision",
        str(os.getpid() + 1),
        "/bin/echo",
        "ran",
    ]
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (-9, "")
    command[3] = str(os.getpid())
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "ran\n"


def test_a_training_dies_with_who_started_it_before_torch_is_loaded(tmp_path: Path):
    (tmp_path / "torch.py").write_text(f"open({str(tmp_path / 'loaded')!r}, 'w')")
    child = subprocess.run(
        [sys.executable, "-m", "imil_backend.learning.child", str(tmp_path)],
        env={**os.environ, SUPERVISOR_VARIABLE: f"1 {os.getpid() + 1}", "PYTHONPATH": f"{tmp_path}:{ROOT}"},
        check=False,
    )
    assert child.returncode == -9
    assert not (tmp_path / "loaded").exists()


def test_a_training_gives_way_to_what_answers_a_person():
    code = "import os; print(os.getpriority(os.PRIO_PROCESS, 0))"
    supervised = [sys.executable, "-m", "imil_backend.learning.contract.supervision", str(os.getpid())]
    shown = subprocess.run(
        [*supervised, sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert int(shown.stdout) >= NICENESS
