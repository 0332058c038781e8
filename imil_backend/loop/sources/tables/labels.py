"""Labels: those that stand for none, and those that look as if one were meant twice."""

from __future__ import annotations

import math
import unicodedata
from collections import defaultdict
from collections.abc import Iterable

# What pandas reads as missing, what databases write for NULL, and Excel's errors; compared without case.
_MISSING = frozenset(
    {
        *("", "nan", "-nan", "na", "n/a", "<na>", "#na", "#n/a", "#n/a n/a", "nat", "null", "none"),
        *("1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan", "-nan(ind)", "(null)", "[null]", "<null>", "\\n"),
        *("#null!", "#div/0!", "#value!", "#ref!", "#name?", "#num!", "#nv", "#wert!", "#bezug!"),
    }
)


def is_missing(value: str, also: Iterable[str] = ()) -> bool:
    """Whether a label stands for none.

    Args:
        value: the label.
        also: labels that stand for none besides the usual ones.
    """
    essence = value.strip().casefold()
    return essence in _MISSING or essence in {each.strip().casefold() for each in also}


def look_alikes(labels: Iterable[str]) -> list[tuple[str, ...]]:
    """Labels that differ in case, blanks, the way of writing a number or the coding of a letter alone."""
    alike: dict[str, set[str]] = defaultdict(set)
    for label in labels:
        alike[_essence(label)].add(label)
    return sorted(tuple(sorted(same)) for same in alike.values() if len(same) > 1)


def warn_of_look_alikes(labels: Iterable[str]) -> list[str]:
    """A warning for each set of classes that look like one."""
    return [
        f"The classes {' and '.join(map(repr, same))} look alike and were imported as they are. If "
        "they are the same, give them one label and import again under another --name."
        for same in look_alikes(labels)
    ]


def _essence(label: str) -> str:
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", label).casefold())
    text = "".join(sign for sign in text if unicodedata.category(sign) != "Cf")  # zero width
    text = " ".join(text.replace("_", " ").split()) or text
    try:
        number = float(label)
    except ValueError:
        return text
    return repr(number) if math.isfinite(number) else text
