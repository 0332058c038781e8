"""The page of a project of our own: its labeling config and its instructions, in the clinician's language."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from imil_backend.label_studio.api.client import LabelStudio
from imil_backend.label_studio.labeling.label_config import load_label_config
from imil_backend.label_studio.labeling.task_data import EVIDENCE_KEY
from imil_backend.label_studio.labeling.words import LANGUAGES, Words, read_own, words_of

PICTURES = ("marker", "finding", "relevant")


def keep_page(client: LabelStudio, number: int, language: str, classes: Sequence[str]) -> None:
    """Give a project the instructions that it lacks, and the language, if its labeling config is still ours.

    Args:
        client: of a user who may change the project.
        number: of a project of our own.
        language: one of LANGUAGES.
        classes: of the dataset.
    """
    there = client.project(number)
    evidence = f"${EVIDENCE_KEY}" in there["label_config"]
    wanted = load_label_config("blackout", language, classes, evidence=evidence)
    ours = {load_label_config("blackout", each, classes, evidence=evidence).strip() for each in LANGUAGES}
    instruction = there.get("expert_instruction") or ""
    change: dict[str, Any] = {}
    if (config := there["label_config"].strip()) in ours and config != wanted.strip():
        change["label_config"] = wanted
    if change or not instruction:
        pictures = re.findall(r'src="([^"]+)"', instruction) or _uploaded(client, number)
        change["expert_instruction"] = guide(words_of(language), pictures)
    if not instruction:
        change["show_instruction"] = True
    if change:
        client.request("PATCH", f"/api/projects/{number}/", body=change)


def shows_evidence(version: str) -> bool:
    """Whether a Label Studio of this version, such as "1.23.2", knows the tag that shows class evidence."""
    return [int(number) for number in re.findall(r"\d+", version)[:2]] >= [1, 23]


def guide(words: Words, pictures: Sequence[str]) -> str:
    """The instructions as HTML; `pictures` are the addresses of PICTURES as a browser asks for them."""
    rows = "".join(
        f'<tr><td width="330"><img src="{address}" width="320"></td><td>{words[f"guide_{name}"]}</td></tr>'
        for name, address in zip(PICTURES, pictures, strict=True)
    )
    intro, *rest = (f"<p>{words[f'guide_{name}']}</p>" for name in ("intro", "choose", "happens", "keys"))
    return f'{intro}<table cellpadding="8"><tbody>{rows}</tbody></table>{"<br>".join(rest)}'


def _uploaded(client: LabelStudio, number: int) -> list[str]:
    """Uploads of the project, for Label Studio takes `data:` URLs out of instructions."""
    files = [(f"guide-{name}.jpg", read_own(f"guide/{name}.jpg")) for name in PICTURES]
    base = urlsplit(client.own_name() or client.url).path.rstrip("/")
    return [base + path for path in client.upload_images(number, files)]
