"""The regions of an annotation's result: what their labels mean, and which items are one region."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from imil_backend.errors import MaskError, RegionLabelError, RegionTypeError
from imil_backend.images.masks.region_types import REGION_TYPES, types_of_results

Region = Mapping[str, object]

_KEY_POINTS = frozenset({"keypoint", "keypointlabels"})
_DOT = frozenset({"x", "y", "width"})  # what the value of a key point has


@dataclass(frozen=True)
class LabelMapping:
    """What the labels of a project mean.

    Attributes:
        to_name: name of the tag that shows the sample's image; regions of other tags are ignored.
        from_names: names of the tags that paint; results of others (choices, texts) are ignored.
        irrelevant: values of the labels for what does not matter.
        relevant: values of the labels for what matters.
        other: values of labels that the tags have besides, and that mean neither.
        aliases: value of each label that has an alias, by its alias.
    """

    to_name: str
    from_names: frozenset[str]
    irrelevant: frozenset[str]
    relevant: frozenset[str] = frozenset()
    other: frozenset[str] = frozenset()
    aliases: Mapping[str, str] = field(default_factory=dict)

    def says_irrelevant(self, labels: Sequence[str]) -> bool | None:
        """True for irrelevant, False for relevant, None for labels that mean neither.

        A magic wand paints without a label where its labels are BrushLabels: such a region is what the
        project's only kind of label says.

        Raises:
            RegionLabelError: the labels contradict each other, or there is none, and it could be either.
        """
        values = {self.aliases.get(label, label) for label in labels}
        if not values:
            kinds = [bool(kind) for kind in (self.irrelevant, self.relevant, self.other)]
            if sum(kinds) != 1:
                raise RegionLabelError("it has no label, and the project's labels have several meanings")
            return True if self.irrelevant else False if self.relevant else None
        irrelevant, relevant = bool(values & self.irrelevant), bool(values & self.relevant)
        if irrelevant and relevant:
            words = ", ".join(sorted(values & (self.irrelevant | self.relevant)))
            raise RegionLabelError(f"it is labelled both irrelevant and relevant ({words})")
        return irrelevant if irrelevant or relevant else None


def painted_regions(result: Sequence[Region], mapping: LabelMapping) -> Iterator[tuple[str, list[Region]]]:
    """The painted regions of the sample's image, each with its name for messages and its items.

    A tool's item and its label's share one id. An item without one (missing, null, empty), as scripts and
    converters write them, is a region of its own, as in the editor. Key points are left out.

    Raises:
        RegionTypeError: a region is of a kind that no mask can be made of.
        MaskError: an item is not an object.
    """
    groups: dict[tuple[str, object], tuple[str, list[Region]]] = {}
    for number, item in enumerate(result):
        if not isinstance(item, Mapping):
            raise MaskError(f"Item {number} of the result is not an object.")
        if str(item.get("from_name")) not in mapping.from_names or _is_key_point(item):
            continue
        name, kind = _name(number, item), shortened(item.get("type"))
        if kind not in types_of_results():
            raise RegionTypeError(
                f"Region {name!r} cannot be used: no mask can be made of a region of type {kind!r}."
            )
        if item.get("to_name") == mapping.to_name:
            key = ("id", str(item["id"])) if item.get("id") else ("number", number)
            groups.setdefault(key, (name, []))[1].append(item)
    return iter(groups.values())


def key_points(result: Sequence[Region], mapping: LabelMapping) -> list[str]:
    """Names of the key points on the sample's image that are said to be irrelevant or relevant.

    They cover no area, so that no mask can be made of them. One with a label of another meaning, a landmark
    for instance, is not meant for us.
    """
    meant = mapping.irrelevant | mapping.relevant
    names: dict[str, None] = {}
    for number, item in enumerate(result):
        if item.get("to_name") != mapping.to_name or not _is_key_point(item):
            continue
        labels = (str(label) for label in _listed(item))
        values = {mapping.aliases.get(label, label) for label in labels}
        if values & meant or (not values and str(item.get("from_name")) in mapping.from_names):
            names[_name(number, item)] = None
    return list(names)


def labels_of(item: Region) -> list[str]:
    """The labels of an item; a text in place of the list is the one label.

    Raises:
        RegionLabelError: one of them is not a text.
    """
    labels = _listed(item)
    if not all(isinstance(label, str) for label in labels):
        raise RegionLabelError("a label is not a text")
    return labels


def _listed(item: Region) -> list[str]:
    value = item.get("value")
    labels = value.get(str(item["type"])) if isinstance(value, Mapping) else None
    return [labels] if isinstance(labels, str) else labels if isinstance(labels, list) else []


def shortened(text: object) -> str:
    """What a message quotes of something that anybody may have written."""
    return str(text)[:80]


def _name(number: int, item: Region) -> str:
    return shortened(item.get("id") or f"number {number}")


def _is_key_point(item: Region) -> bool:
    """Whether an item is a key point, or the label of one: it has the dot's width and no height."""
    kind, value = str(item.get("type")), item.get("value")
    if kind != "labels" or not isinstance(value, Mapping):
        return kind in _KEY_POINTS
    drawn = {key for region_type in REGION_TYPES.values() for key in region_type.keys} - _DOT
    return value.keys() >= _DOT and not value.keys() & drawn
