from pathlib import Path

import pytest
from tiny_jobs import RECIPE, JobMaker

from imil_backend.learning.child.training_process import OUT_OF_MEMORY_EXIT
from imil_backend.learning.contract import launch
from imil_backend.learning.contract.training_job import LAUNCH_FILE, LOG_FILE, read_json

pytestmark = pytest.mark.training


def test_out_of_memory_ends_the_child_which_goes_on_with_half_the_micro_batch(
    make_job: JobMaker, monkeypatch: pytest.MonkeyPatch
):
    """The batch stays as it is, of more micro-batches; epochs that are done are not done again."""
    job = make_job()
    command = launch._command(job, 1, None)
    faulty = [{"imil_backend.learning.child": "faulty_training"}.get(word, word) for word in command]
    monkeypatch.setattr(launch, "_command", lambda *_: faulty)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=":")
    run_child, ended = launch._run_child, []
    monkeypatch.setattr(launch, "_run_child", lambda *given: ended.append(run_child(*given)) or ended[-1])

    result = launch.run_training(job)

    log = (job / LOG_FILE).read_text()
    assert ended == [OUT_OF_MEMORY_EXIT, 0]
    assert "CUDA out of memory" in log
    assert [log.count(f" epoch {number}: loss") for number in (1, 2, 3)] == [1, 1, 1]
    assert [epoch["epoch"] for epoch in result["epochs"]] == [1, 2, 3]
    choices = result["choices"]
    assert (choices["micro_batch_size"], choices["micro_batches"]) == (4, 4)
    assert choices["micro_batch_size"] * choices["micro_batches"] == RECIPE.batch_size
    assert read_json(job / LAUNCH_FILE)["micro_batch_size"] == RECIPE.micro_batch_size // 2
