"""What clinicians read, in their language: `label_config/words`, and the labeling configs filled with it.

Label Studio's own buttons keep its language. What stands in annotations is the same in every language.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

from imil_backend.errors import LabelConfigError

LANGUAGES = ("en", "de", "fr", "es", "it")
RIGHT_CLASS = "imil_right_class"  # name of the Choices for what an image with a wrong label shows

_FOLDERS = (Path(__file__).parents[3] / "label_config", Path(__file__).parents[2] / "label_config")
_PLACEHOLDER = re.compile(r"^(?P<indent>[ ]*)(?P<part>\{\{\w+\}\})$|\{\{(?P<word>\w+)\}\}", re.MULTILINE)

Words = Mapping[str, str]


def read_own(path: str) -> bytes:
    """One of our own files in `label_config`.

    Raises:
        LabelConfigError: there is none of this name.
    """
    for folder in _FOLDERS:
        if (folder / path).is_file():
            return (folder / path).read_bytes()
    raise LabelConfigError(f"There is no labeling config {path.removesuffix('.xml')!r}.")


@cache
def words_of(language: str) -> Words:
    """The catalogue of one of LANGUAGES."""
    words: dict[str, str] = json.loads(read_own(f"words/{language}.json"))
    return words


def filled(
    path: str, language: str, classes: Sequence[str], names: Mapping[str, str], without: Collection[str] = ()
) -> str:
    """A labeling config, or a part of one, with its placeholders filled.

    A placeholder that is a line of its own stands for `label_config/parts/NAME.xml`, or for the classes; any
    other one for a word of the catalogue or for a name.

    Args:
        path: in `label_config`.
        language: one of LANGUAGES.
        classes: of the dataset; without any, nobody is asked what an image with a wrong label shows.
        names: of tags, by placeholder.
        without: parts that are left out.
    """
    words = {**words_of(language), **names}

    def fill(found: re.Match[str]) -> str:
        if found["word"]:
            return escape(words[found["word"]], {'"': "&quot;"})
        name = found["part"].strip("{}")
        if name in without or (name == "right_class" and not classes):
            return ""
        part = f"parts/{name}.xml"
        inner = _choices(classes) if name == "classes" else filled(part, language, classes, names, without)
        return "\n".join(found["indent"] + line for line in inner.splitlines())

    return _PLACEHOLDER.sub(fill, read_own(path).decode()).replace("\n\n", "\n")


def _choices(classes: Sequence[str]) -> str:
    return "\n".join(f"<Choice value={quoteattr(each)}/>" for each in classes)


def problem_in(language: str, reason: str) -> str:
    """Why an annotation was set aside, for the one who made it.

    Args:
        language: one of LANGUAGES.
        reason: as `read_annotation` tells it, in English.
    """
    words = words_of(language)
    for name, told in words_of("en").items():
        if name.startswith("problem_") and (found := _template(told).fullmatch(reason)):
            return words[name].format(**found.groupdict())
    return words["problem_unknown"]


@cache
def _template(told: str) -> re.Pattern[str]:
    """Finds what a sentence of the catalogue was filled with."""
    return re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>.+)", re.escape(told)))
