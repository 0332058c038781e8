"""What a project's labeling config means: which tag shows the image, which paint, which choices say what."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from imil_backend.errors import AmbiguousConfigError, LabelConfigError
from imil_backend.images.masks.masks import LabelMapping
from imil_backend.images.masks.region_types import painting_tags
from imil_backend.label_studio.labeling.words import RIGHT_CLASS, filled

IRRELEVANT = ("Irrelevant",)
RELEVANT = ("Relevant",)
NOTHING_TO_BLACK_OUT = "nothing_to_black_out"
LABEL_WRONG = "label_wrong"
UNREADABLE = "unreadable"
REVIEW_CHOICES = {
    NOTHING_TO_BLACK_OUT: "Nothing to black out",
    LABEL_WRONG: "The label is wrong",
    UNREADABLE: "Unreadable",
}


@dataclass(frozen=True)
class ProjectMapping:
    """What matters in a project's labeling config.

    Attributes:
        image_name: name of the tag that shows the image.
        image_key: key of the image's address in a task's data.
        labels: what the painted labels mean; without `from_names` where there is nothing to paint with.
        brush_name: name of the BrushLabels with a label for what is irrelevant, or None.
        brush_label: that label as it stands in a result.
        brush_relevant: that BrushLabels' label for what is relevant as it stands in a result, or None.
        review_name: name of the Choices for what cannot be painted, or None.
        review: NOTHING_TO_BLACK_OUT, LABEL_WRONG or UNREADABLE, by the choice as it stands in a result.
        shown: what the editor shows of each choice of the review, by the choice as it stands in a result.
        class_choices_name: name of the Choices that carries the class, or None.
        classes: its choices as they stand in a result, in the config's order.
        class_candidates: names of all Choices that could carry the class.
        fields: keys of a task's data that the config shows.
        takes_uploads: whether Label Studio takes image files; it does where its tags take one key alone.
    """

    image_name: str
    image_key: str
    labels: LabelMapping
    brush_name: str | None = None
    brush_label: str | None = None
    brush_relevant: str | None = None
    review_name: str | None = None
    review: Mapping[str, str] = field(default_factory=dict)
    shown: Mapping[str, str] = field(default_factory=dict)
    class_choices_name: str | None = None
    classes: tuple[str, ...] = ()
    class_candidates: tuple[str, ...] = ()
    fields: frozenset[str] = frozenset()
    takes_uploads: bool = True

    @property
    def paints(self) -> bool:
        """Whether a clinician can paint in this project."""
        return bool(self.labels.from_names)


def read_label_config(
    xml: str,
    *,
    irrelevant: Collection[str] = IRRELEVANT,
    relevant: Collection[str] = RELEVANT,
    classes: Collection[str] | None = None,
    image: str | None = None,
    class_choices: str | None = None,
    complete: bool = True,
) -> ProjectMapping:
    """Read a labeling config.

    Args:
        xml: the project's `label_config`.
        irrelevant: values, aliases or predicted_values of labels for what does not matter; upper and lower
            case are the same.
        relevant: the same for what matters.
        classes: the dataset's classes; a Choices must hold all of them to count as the class. Without, any
            Choices that is not for the review or for single regions counts.
        image: name of the Image to use where there are several.
        class_choices: name of the Choices that carries the class where there are several; else the first.
        complete: refuse a config with neither labels to paint nor classes.

    Raises:
        LabelConfigError: invalid XML, no image, or neither labels to paint with nor classes.
        AmbiguousConfigError: several images, and none of them was named.
    """
    root = _parse(xml)
    image_name, image_key = _image(root, image)
    labels = _labels(root, image_name, _folded(irrelevant), _folded(relevant))
    brush_name, brush_label, brush_relevant = _brush(root, labels)
    choices = [
        tag for tag in root.iter("Choices") if image_name in _targets(tag) and tag.get("name") != RIGHT_CLASS
    ]
    review_tag = next((tag for tag in choices if tag.get("name") != class_choices and _review(tag)), None)
    class_tags = {_name(tag): tag for tag in choices if tag is not review_tag and _holds(tag, classes)}
    class_tag = class_tags.get(class_choices or next(iter(class_tags), ""))
    if complete and not labels.from_names and class_tag is None:
        raise LabelConfigError(
            "The labeling config has no labels to paint with and no classes to choose from: add "
            f'<BrushLabels name="mask" toName="{image_name}"> with <Label value="Irrelevant"/> in it, or '
            f"<Choices> with the classes{': ' + ', '.join(sorted(classes)) if classes else ''}."
        )
    return ProjectMapping(
        image_name=image_name,
        image_key=image_key,
        labels=labels,
        brush_name=brush_name,
        brush_label=brush_label,
        brush_relevant=brush_relevant,
        review_name=None if review_tag is None else _name(review_tag),
        review={} if review_tag is None else _review(review_tag),
        shown={} if review_tag is None else _shown(review_tag),
        class_choices_name=None if class_tag is None else _name(class_tag),
        classes=() if class_tag is None else tuple(_results(class_tag)),
        class_candidates=tuple(class_tags),
        fields=_fields(root.iter()),
        takes_uploads=len(_fields(tag for tag in root.iter() if tag.get("name"))) == 1,
    )


def load_label_config(
    name: str, language: str = "en", classes: Sequence[str] = (), *, evidence: bool = False
) -> str:
    """Our own labeling config of this name, such as "blackout".

    Args:
        name: of a file in `label_config`.
        language: what the clinician reads; values in annotations are the same in every language.
        classes: of the dataset, to say what an image with a wrong label shows.
        evidence: show class evidence beside the image, which takes Label Studio 1.23.

    Raises:
        LabelConfigError: there is none.
    """
    names = {"image_name": "image", "review_name": "review"}
    return filled(f"{name}.xml", language, classes, names, without=() if evidence else ("evidence",))


def _parse(xml: str) -> Element:
    if "<!DOCTYPE" in xml or "<!ENTITY" in xml:
        raise LabelConfigError("A labeling config must not declare a document type or entities.")
    try:
        return ElementTree.fromstring(xml)  # noqa: S314 - nothing to expand without declarations
    except ElementTree.ParseError as error:
        raise LabelConfigError(f"The labeling config is not valid XML: {error}.") from None


def _image(root: Element, wanted: str | None) -> tuple[str, str]:
    images = [tag for tag in root.iter("Image") if wanted is None or tag.get("name") == wanted]
    if len(images) != 1:
        names = [tag.get("name", "?") for tag in root.iter("Image")]
        message = f"The labeling config must show exactly one <Image>; it has {len(images)}" + (
            f" of the name {wanted!r}" if wanted else ""
        )
        if names:
            raise AmbiguousConfigError(
                f"{message}. Choose one with --image: {', '.join(names)}.", "image", names
            )
        raise LabelConfigError(f"{message}.")
    value = images[0].get("value", "")
    if not value.startswith("$") or len(value) < 2:
        raise LabelConfigError(
            'The <Image> must take its address from the task, as in value="$image"; '
            "a list of images is not supported."
        )
    return _name(images[0]), value[1:]


def _fields(tags: Iterable[Element]) -> frozenset[str]:
    return frozenset(name for tag in tags for name in re.findall(r"\$(\w+)", tag.get("value", "")))


def _labels(
    root: Element, image_name: str, irrelevant: frozenset[str], relevant: frozenset[str]
) -> LabelMapping:
    meanings: dict[bool, set[str]] = {True: set(), False: set()}
    painting = painting_tags()
    names: set[str] = set()
    other: set[str] = set()
    aliases: dict[str, str] = {}
    for tag in root.iter():
        if tag.tag not in painting or image_name not in _targets(tag):
            continue
        names.add(_name(tag))
        for label in tag.iter("Label"):
            value, alias = label.get("value", ""), label.get("alias")
            if alias:
                aliases[alias] = value
            known = _folded({value, alias or value, *_predicted_values(label)})
            for meaning, wanted in ((True, irrelevant), (False, relevant)):
                if known & wanted:
                    meanings[meaning].add(value)
            if not known & (irrelevant | relevant):
                other.add(value)
    if not meanings[True] and not meanings[False]:
        names.clear()  # it paints, but nothing that means anything here
    return LabelMapping(
        to_name=image_name,
        from_names=frozenset(names),
        irrelevant=frozenset(meanings[True]),
        relevant=frozenset(meanings[False]),
        other=frozenset(other),
        aliases=aliases,
    )


def _brush(root: Element, labels: LabelMapping) -> tuple[str | None, str | None, str | None]:
    """The tag that paints with a brush, its label for irrelevant pixels, and that for relevant ones."""
    for tag in root.iter("BrushLabels"):
        if tag.get("name") not in labels.from_names:
            continue
        irrelevant, relevant = (
            next((_result(label) for label in tag.iter("Label") if label.get("value") in meant), None)
            for meant in (labels.irrelevant, labels.relevant)
        )
        if irrelevant is not None:
            return _name(tag), irrelevant, relevant
    return None, None, None


def _result(label: Element) -> str | None:
    """A label as it stands in an annotation's result."""
    return label.get("alias") or label.get("value")


def _review(choices: Element) -> dict[str, str]:
    """What each choice in a result means for the review; empty if this Choices is for something else.

    A Choices of classes may hold one that means something for the review, such as "Unreadable".
    """
    texts = {text.casefold(): meaning for meaning, text in REVIEW_CHOICES.items()}
    found, others = {}, 0
    for choice in choices.iter("Choice"):
        value, alias = choice.get("value", ""), choice.get("alias")
        meaning = alias if alias in REVIEW_CHOICES else texts.get(value.casefold())
        if meaning:
            found[alias or value] = meaning
        else:
            others += 1
    return found if len(found) > 1 or not others else {}


def _shown(choices: Element) -> dict[str, str]:
    """The words of each choice, by the choice as it stands in a result: an alias takes their place there."""
    values = ((choice.get("value", ""), choice.get("alias")) for choice in choices.iter("Choice"))
    return {alias or value: value or str(alias) for value, alias in values if value or alias}


def _holds(choices: Element, classes: Collection[str] | None) -> bool:
    if choices.get("perRegion", "").lower() == "true":
        return False
    results = _folded(tuple(_results(choices)))
    return bool(results) if classes is None else results >= _folded(classes)


def _results(choices: Element) -> Iterator[str]:
    """The choices as they stand in an annotation's result."""
    for choice in choices.iter("Choice"):
        text = choice.get("alias") or choice.get("value")
        if text:
            yield text


def _name(tag: Element) -> str:
    name = tag.get("name")
    if not name:
        raise LabelConfigError(f"A <{tag.tag}> in the labeling config has no name.")
    return name


def _predicted_values(label: Element) -> list[str]:
    """What a model calls this label, as the labeling config says."""
    return [name.strip() for name in label.get("predicted_values", "").split(",") if name.strip()]


def _targets(tag: Element) -> list[str]:
    return [name.strip() for name in tag.get("toName", "").split(",")]


def _folded(names: Collection[str]) -> frozenset[str]:
    return frozenset(name.casefold() for name in names)
