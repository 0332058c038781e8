from __future__ import annotations

import pytest

from imil_backend.label_studio.labeling.label_config import load_label_config, read_label_config
from imil_backend.label_studio.labeling.label_config_change import completed_config, difference

SHORT = '<View><Image name="größe" value="$i"/></View>'
LONG = '<?xml version="1.0"?>\n<View >\r\n  <!-- </View> -->\n  <Image\tname="a" value="$i"/>\n\n</View >  \n'


@pytest.mark.parametrize("xml", [SHORT, LONG])
def test_a_config_is_completed_and_every_other_byte_stays(xml: str) -> None:
    mapping = read_label_config(xml, complete=False)
    completed = completed_config(xml, mapping)
    image = xml.index("<Image")
    assert completed.startswith(xml[:image])
    assert completed.endswith(xml[image:])
    after = read_label_config(completed)
    assert after.paints
    assert after.review_name == "review"
    assert after.image_name == mapping.image_name
    assert completed_config(completed, after) == completed
    assert 'value="$predicted"' in difference(xml, completed)


def test_our_own_config_lacks_nothing() -> None:
    xml = load_label_config("blackout")
    assert completed_config(xml, read_label_config(xml)) == xml


def test_names_that_are_taken_are_not_taken_again() -> None:
    xml = (
        '<View><Image name="mask" value="$i"/><Choices name="review" toName="mask"><Choice value="x"/>'
        "</Choices></View>"
    )
    after = read_label_config(completed_config(xml, read_label_config(xml)))
    assert (after.brush_name, after.review_name) == ("imil_mask", "imil_review")


@pytest.mark.parametrize(("fields", "shown"), [("", True), ('<Text name="t" value="$report"/>', False)])
def test_class_evidence_is_shown_where_its_pictures_can_be_uploaded(fields: str, shown: bool) -> None:
    xml = f'<View><Image name="image" value="$image"/>{fields}</View>'
    completed = completed_config(xml, read_label_config(xml, complete=False), evidence=True)
    after = read_label_config(completed)
    assert ("evidence" in after.fields) is shown
    assert after.takes_uploads is shown
    assert completed_config(completed, after, evidence=True) == completed
