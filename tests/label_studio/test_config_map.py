from __future__ import annotations

import pytest
from support.label_configs import classification_config

from imil_backend.errors import LabelConfigError
from imil_backend.label_studio.labeling.label_config import (
    LABEL_WRONG,
    NOTHING_TO_BLACK_OUT,
    UNREADABLE,
    load_label_config,
    read_label_config,
)

IMAGE = '<Image name="image" value="$image"/>'


def test_our_own_blackout_config_is_understood() -> None:
    mapping = read_label_config(load_label_config("blackout"))
    assert (mapping.image_name, mapping.image_key) == ("image", "image")
    assert mapping.labels.irrelevant == {"Irrelevant"}
    assert mapping.labels.relevant == {"Relevant"}
    assert (mapping.brush_name, mapping.brush_label) == ("mask", "Irrelevant")
    assert mapping.review_name == "review"
    assert set(mapping.review.values()) == {NOTHING_TO_BLACK_OUT, LABEL_WRONG, UNREADABLE}
    assert mapping.class_choices_name is None


def test_our_own_classification_config_holds_the_classes() -> None:
    mapping = read_label_config(classification_config(["normal", 'a "<b>" & c']))
    assert not mapping.paints
    assert mapping.class_choices_name == "class"
    assert mapping.classes == ("normal", 'a "<b>" & c')


def test_brush_with_labels_aliases_and_other_names() -> None:
    mapping = read_label_config(
        '<View><Image name="xray" value="$url"/><Brush name="brush" toName="xray"/>'
        '<Labels name="labels" toName="xray"><Label value="Artefakt" alias="irrelevant"/></Labels>'
        '<Choices name="diagnosis" toName="xray"><Choice value="Well" alias="0"/><Choice value="Sick"/>'
        "</Choices></View>",
        classes=["0", "Sick"],
    )
    assert mapping.image_key == "url"
    assert mapping.labels.from_names == {"brush", "labels"}
    assert mapping.labels.irrelevant == {"Artefakt"}
    assert mapping.labels.aliases == {"irrelevant": "Artefakt"}
    assert mapping.brush_name is None
    assert (mapping.class_choices_name, mapping.classes) == ("diagnosis", ("0", "Sick"))


def test_labels_that_mean_irrelevant_can_be_named() -> None:
    xml = (
        f'<View>{IMAGE}<BrushLabels name="b" toName="image"><Label value="Marker"/><Label value="Tube"/>'
        '<Label value="Lung"/></BrushLabels></View>'
    )
    mapping = read_label_config(xml, irrelevant=["marker", "tube"], relevant=["lung"])
    assert mapping.labels.irrelevant == {"Marker", "Tube"}
    assert mapping.labels.relevant == {"Lung"}


def test_a_choices_that_lacks_a_class_is_not_the_class() -> None:
    xml = (
        f'<View>{IMAGE}<Choices name="quality" toName="image"><Choice value="good"/></Choices>'
        '<Choices name="class" toName="image"><Choice value="a"/><Choice value="b"/></Choices></View>'
    )
    assert read_label_config(xml, classes=["a", "b"]).class_choices_name == "class"
    with pytest.raises(LabelConfigError, match="classes: a, c"):
        read_label_config(xml, classes=["c", "a"])


def test_classes_beside_which_an_image_may_be_unreadable_are_no_review() -> None:
    def choices(name: str, *values: str) -> str:
        tags = "".join(f'<Choice value="{value}"/>' for value in values)
        return f'<Choices name="{name}" toName="image">{tags}</Choices>'

    diagnosis = choices("diagnosis", "Normal", "Pneumonia", "Unreadable")
    mapping = read_label_config(f"<View>{IMAGE}{diagnosis}</View>")
    assert (mapping.review_name, mapping.class_choices_name) == (None, "diagnosis")
    review = choices("review", "The label is wrong", "Unreadable", "Something else")
    assert read_label_config(f"<View>{IMAGE}{diagnosis}{review}</View>").review_name == "review"
    unreadable = choices("quality", "Unreadable")
    assert read_label_config(f"<View>{IMAGE}{diagnosis}{unreadable}</View>").review_name == "quality"


@pytest.mark.parametrize(
    ("xml", "words"),
    [
        ("<View>", "not valid XML"),
        ("", "not valid XML"),
        ('<!DOCTYPE x [<!ENTITY a "b">]><View>&a;</View>', "must not declare"),
        ("<View/>", "exactly one <Image>; it has 0"),
        (f"<View>{IMAGE}{IMAGE}</View>", "it has 2"),
        ('<View><Image name="i" valueList="$images"/></View>', "a list of images is not supported"),
        (f"<View>{IMAGE}</View>", "no labels to paint with"),
        (
            f'<View>{IMAGE}<BrushLabels name="b" toName="image"><Label value="Lesion"/></BrushLabels></View>',
            "Irrelevant",
        ),
        (
            f'<View>{IMAGE}<BrushLabels toName="image"><Label value="Irrelevant"/></BrushLabels></View>',
            "no name",
        ),
    ],
)
def test_a_config_that_lacks_something_is_refused(xml: str, words: str) -> None:
    with pytest.raises(LabelConfigError, match=words):
        read_label_config(xml)


def test_an_unknown_config_of_ours_is_refused() -> None:
    with pytest.raises(LabelConfigError, match="'nothing'"):
        load_label_config("nothing")
