"""Every command of the guide for those who have a Label Studio, in its order, against the real one."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from support.installation import SMALL, Installation
from support.label_configs import classification_config
from support.label_studio import RunningLabelStudio
from support.push import png
from support.snapshot import differing, snapshot

from imil_backend.config import load_settings
from imil_backend.images.masks.rle import encode_rle

GUIDE = Path(__file__).parents[1] / "docs" / "existing-label-studio.md"
QUICKLY = {("train",): ("train", *SMALL, "--epochs", "2")}
PAINTING = """<View>
  <Image name="film" value="$image"/>
  <BrushLabels name="brush" toName="film">
    <Label value="Irrelevant"/><Label value="Marker"/><Label value="Tube"/><Label value="Lung"/>
  </BrushLabels>
</View>"""


def lines() -> Iterator[list[str]]:
    """The words of each line in the guide's blocks without a language."""
    text = GUIDE.read_text(encoding="utf-8")
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        for line in block.splitlines() if not language else ():
            yield shlex.split(line, comments=True)


COMMANDS = [words[1:] for words in lines() if words[0] == "imil"]


def test_the_settings_in_the_guide_are_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    given = [words[-1] for words in lines() if words[0] == "export" or re.match(r"[A-Z_]+=", words[0])]
    for name, value in (setting.split("=", 1) for setting in given):
        monkeypatch.setenv(name, value)
    settings = load_settings(_env_file=None)
    assert settings.label_studio_url == "https://label-studio.example.org"
    assert settings.public_url == "https://imil.example.org"
    assert "10.20.0.0/16" in settings.image_hosts


@pytest.fixture
def classified(label_studio: RunningLabelStudio) -> int:
    """Twenty-four films of twelve patients, each with a class."""
    client = label_studio.client
    number = client.create_project("classes", classification_config(["normal", "sick"]), "")
    paths = client.upload_images(number, [(f"{each}.png", png(seed=each)) for each in range(24)])
    tasks = []
    for each, path in enumerate(paths):
        choice = {"choices": [["normal", "sick"][each % 2]]}
        item = {"from_name": "class", "to_name": "image", "type": "choices", "value": choice}
        data = {"image": path, "patient": f"p{each // 2}", "fold": ["train", "train", "val"][each % 3]}
        tasks.append({"data": data, "annotations": [{"result": [item]}]})
    client.import_tasks(number, tasks)
    return number


@pytest.mark.label_studio
@pytest.mark.training
@pytest.mark.timeout(900)
def test_the_commands_do_what_the_guide_says(
    installation: Installation, label_studio: RunningLabelStudio, classified: int
) -> None:
    painted = label_studio.client.create_project("painting", PAINTING, "")
    numbers = {"7": str(painted), "12": str(classified)}
    before = {number: snapshot(label_studio, number) for number in (classified, painted)}

    def changed() -> set[str]:
        assert differing(before[classified], snapshot(label_studio, classified)) == set()
        return differing(before[painted], snapshot(label_studio, painted))

    seen = []
    for command in COMMANDS:
        words = [numbers.get(word, word) for word in QUICKLY.get(tuple(command), command)]
        if words[0] in {"serve", "worker"}:
            installation.start(*words)
            installation.wait_for(lambda _: installation.answers())
        else:
            installation.imil(*words)
        seen.append((" ".join(command), changed()))
        if "--predictions" in words:
            assert_what_is_painted_is_not_seen(label_studio, painted)
    assert_only_what_was_announced(dict(seen).__getitem__)


def assert_what_is_painted_is_not_seen(label_studio: RunningLabelStudio, project: int) -> None:
    """Asked interactively through Label Studio, as its editor asks."""
    [task] = list(label_studio.client.tasks(project))[:1]
    [ml_backend] = label_studio.ask(f"/api/ml/?project={project}")
    everything = {
        "id": "all", "type": "brushlabels", "from_name": "brush", "to_name": "film",
        "original_width": 64, "original_height": 48,
        "value": {
            "format": "rle",
            "rle": encode_rle(np.full((48, 64), 255, dtype=np.uint8)),
            "brushlabels": ["Marker"],
        },
    }  # fmt: skip

    def score(*regions: dict[str, object]) -> float:
        asked = {"task": task["id"], "context": {"result": regions}}
        path, deadline = f"/api/ml/{ml_backend['id']}/interactive-annotating", time.monotonic() + 120
        while "score" not in (answer := label_studio.request("POST", path, json=asked).json()["data"]):
            assert time.monotonic() < deadline  # until the network is loaded
            time.sleep(0.5)
        return float(answer["score"])

    assert score() == score()
    assert score() != score(everything)


TASKS = {"tasks", "summary", "project.task_number", "project.queue_total"}
CONFIG = {"project.label_config", "project.parsed_label_config", "project.control_weights"}


def assert_only_what_was_announced(changed_after: Callable[[str], set[str]]) -> None:
    assert changed_after("connect --project 7 --dry-run") == set()
    assert changed_after("connect --project 7") == {"webhooks"}
    assert changed_after("push") == {"webhooks"} | TASKS
    connected = changed_after("connect --project 7 --predictions --write")
    assert connected == {"webhooks", "ML backends", "project.model_version", "views"} | CONFIG | TASKS
    assert changed_after("disconnect --dry-run") == connected
    assert changed_after("disconnect") == TASKS
