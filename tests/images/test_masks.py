"""What an annotation says about the pixels, for every way to paint in Label Studio."""

import base64
import io
import json
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from imil_backend.errors import (
    BitmaskError,
    MaskError,
    MaskSizeError,
    RegionLabelError,
    RegionTypeError,
    RleTruncatedError,
    RleValueError,
    ShapeError,
)
from imil_backend.images.masks.masks import (
    POLICIES,
    LabelMapping,
    annotation_mask,
    combine_masks,
    dice,
    encode_rle,
    mask_coverage,
    mask_from_png,
    mask_to_png,
)
from imil_backend.images.masks.regions import key_points

DRAWN = Path(__file__).parents[1] / "fixtures" / "regions"
WIDTH, HEIGHT = 90, 60
MAPPING = LabelMapping(
    to_name="image",
    from_names=frozenset({"mask", "tool"}),
    irrelevant=frozenset({"Irrelevant"}),
    relevant=frozenset({"Relevant"}),
    aliases={"irr": "Irrelevant"},
)
ONLY_IRRELEVANT = LabelMapping("image", MAPPING.from_names, MAPPING.irrelevant, aliases=MAPPING.aliases)
LEFT = np.arange(WIDTH) < 30
TOP = np.arange(HEIGHT)[:, None] < 20


def region(
    kind="rectanglelabels", label="Irrelevant", *, name="r1", to_name="image", from_name="mask", **value
):
    """An item of a result; the value of a rectangle if there is no other."""
    value = value or {"x": 0, "y": 0, "width": 100, "height": 100, "rotation": 0}
    labels = {kind: [label]} if label else {}
    size = {"original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0}
    names = {"id": name, "type": kind, "from_name": from_name, "to_name": to_name}
    return {**names, **size, "value": {**value, **labels}}


def box(x, y, width, height, label="Irrelevant", name="r1", **names):
    """A rectangle in pixels."""
    share = {"x": 100 * x / WIDTH, "y": 100 * y / HEIGHT, "width": 100 * width / WIDTH}
    return region(label=label, name=name, **share, height=100 * height / HEIGHT, rotation=0, **names)


def brush(mask, kind="brushlabels", label="Irrelevant", **names):
    rle = encode_rle(np.where(np.broadcast_to(mask, (HEIGHT, WIDTH)), 255, 0).astype(np.uint8))
    return region(kind, label, format="rle", rle=rle, **names)


def bitmask(image, kind="bitmasklabels", label="Irrelevant", **names):
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    url = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    return region(kind, label, imageDataURL=url, **names)


def mask_of(*items, mapping=MAPPING):
    return annotation_mask(list(items), mapping, WIDTH, HEIGHT)


def drawn(name, mapping=ONLY_IRRELEVANT):
    return annotation_mask(json.loads((DRAWN / f"{name}.json").read_text()), mapping, 640, 480)


# --- as the real editor sends it: see fixtures/regions/README.md --------------------------------------


@pytest.mark.parametrize(
    ("name", "left", "right", "top", "bottom"),
    [
        ("rectangle", 192, 320, 96, 288),
        ("rectangle_labels", 192, 320, 96, 288),
        ("rectangle_turned", 128, 384, 240, 336),
        ("ellipse", 192 - 128, 192 + 128, 96 - 96, 96 + 96),
        ("polygon", 128, 448, 96, 384),
        ("brush_labels", 192 - 5, 320 + 5, 96 - 5, 288 + 5),
        ("alias", 192 - 5, 320 + 5, 96 - 5, 288 + 5),
        ("bitmask", 192 - 15, 320 + 15, 96 - 15, 288 + 15),
        ("bitmask_labels", 192 - 15, 320 + 15, 96 - 15, 288 + 15),
    ],
)
def test_what_was_drawn_is_where_it_was_drawn(name, left, right, top, bottom):
    rows, columns = np.nonzero(drawn(name))
    found = [columns.min(), columns.max() + 1, rows.min(), rows.max() + 1]
    assert np.abs(np.subtract(found, [left, right, top, bottom])).max() <= 1


def test_a_magic_wand_without_label_means_the_only_label_there_is():
    assert np.array_equal(drawn("magicwand"), drawn("magicwand_labels"))
    assert drawn("magicwand").any()
    with pytest.raises(RegionLabelError):
        drawn("magicwand", MAPPING)
    with pytest.raises(RegionLabelError):
        drawn(
            "magicwand",
            LabelMapping("image", MAPPING.from_names, MAPPING.irrelevant, other=frozenset({"Lesion"})),
        )


# --- labels ---------------------------------------------------------------------------------------


def test_without_regions_nothing_is_irrelevant():
    assert not mask_of().any()


def test_irrelevant_regions_add_up():
    mask = mask_of(box(0, 0, 30, 60, name="a"), box(0, 0, 90, 20, name="b"))
    assert np.array_equal(mask, LEFT | TOP)


def test_relevant_alone_makes_everything_else_irrelevant():
    mask = mask_of(box(0, 0, 30, 60, "Relevant", "a"), box(0, 0, 90, 20, "Relevant", "b"))
    assert np.array_equal(mask, ~(LEFT | TOP))


def test_irrelevant_wins_within_relevant():
    mask = mask_of(box(0, 0, 30, 60, "Relevant", "a"), box(0, 0, 90, 20, "Irrelevant", "b"))
    assert np.array_equal(mask, ~(LEFT & ~TOP))


def test_a_relevant_region_without_a_pixel_says_nothing():
    assert not mask_of(brush(np.False_, label="Relevant")).any()


def test_a_label_is_known_by_its_alias():
    assert mask_of(box(0, 0, 30, 60, "irr")).any()


def test_labels_that_mean_nothing_here_are_ignored():
    assert not mask_of(box(0, 0, 30, 60, "Lesion")).any()


def test_contradicting_labels_are_refused():
    item = box(0, 0, 30, 60)
    item["value"]["rectanglelabels"] = ["Irrelevant", "Relevant"]
    with pytest.raises(RegionLabelError, match="both"):
        mask_of(item)


def test_a_tool_and_its_label_are_one_region():
    tool, label = brush(LEFT, "brush", None, from_name="tool"), brush(LEFT, "labels", "Relevant")
    assert np.array_equal(mask_of(tool, label), np.broadcast_to(~LEFT, (HEIGHT, WIDTH)))


# --- ids and extents as scripts and converters write them ----------------------------------------------

LS_REGIONS = json.loads((DRAWN.parent / "inputs" / "ls_regions" / "regions.json").read_text())
BOXES = LabelMapping("image", frozenset({"box"}), frozenset({"Irrelevant"}))


def test_regions_whose_id_is_null_are_all_kept():
    mask = annotation_mask(LS_REGIONS["null_ids"], BOXES, 600, 400)
    assert mask.mean() == pytest.approx(0.08)
    assert mask[:80, :120].all()
    assert mask[240:320, 360:480].all()


def test_a_negative_height_is_flipped():
    mask = annotation_mask(LS_REGIONS["negative_height"], BOXES, 600, 400)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    assert (columns[0] / 6, (columns[-1] + 1) / 6) == pytest.approx((16.4, 69.4), abs=0.2)
    assert (rows[0] / 4, (rows[-1] + 1) / 4) == pytest.approx((35.5, 96.2), abs=0.2)


@pytest.mark.parametrize("none", [None, "", 0, False, "missing"])
def test_regions_without_an_id_are_regions_of_their_own(none):
    items = [box(0, 0, 30, 60), box(60, 0, 30, 60), box(30, 0, 30, 20, name="r1")]
    for item in items[:2]:
        item["id"] = none
        if none == "missing":
            del item["id"]
    expected = np.broadcast_to((np.arange(WIDTH) < 30) | (np.arange(WIDTH) >= 60) | TOP, (HEIGHT, WIDTH))
    assert np.array_equal(mask_of(*items), expected)


def test_regions_whose_ids_differ_at_the_end_alone_are_two():
    one, other = box(0, 0, 30, 60, name="a" * 100 + "1"), box(60, 0, 30, 60, name="a" * 100 + "2")
    assert mask_of(one, other).mean() == pytest.approx(2 / 3)


def test_sizes_and_the_place_in_a_list_of_images_may_be_null():
    item = {**box(0, 0, 30, 60), "original_width": None, "original_height": None, "item_index": None}
    assert np.array_equal(mask_of(item), np.broadcast_to(LEFT, (HEIGHT, WIDTH)))


def test_a_key_point_beside_a_brush_is_passed_over_and_named():
    point = region("keypointlabels", name="k1", x=80, y=80, width=0.5)
    by_tool = [
        region("keypoint", None, name="k2", from_name="dot", x=80, y=80, width=0.5),
        region("labels", name="k2", x=80, y=80, width=0.5),
    ]
    result = [point, brush(LEFT), *by_tool]
    assert np.array_equal(mask_of(*result), np.broadcast_to(LEFT, (HEIGHT, WIDTH)))
    assert key_points(result, MAPPING) == ["k1", "k2"]


def test_a_landmark_is_none_of_our_business():
    landmark = region("keypointlabels", "Carina", name="k1", from_name="landmarks", x=80, y=80, width=0.5)
    elsewhere = region("keypointlabels", name="k2", to_name="second", x=80, y=80, width=0.5)
    assert key_points([landmark, elsewhere], MAPPING) == []


def test_a_label_that_is_a_text_instead_of_a_list_is_that_label():
    for label, expected in (
        ("Irrelevant", LEFT),
        ("irr", LEFT),
        ("Relevant", ~LEFT),
        ("Lesion", LEFT & ~LEFT),
    ):
        item = brush(LEFT, label=label)
        item["value"]["brushlabels"] = label
        assert np.array_equal(mask_of(item), np.broadcast_to(expected, (HEIGHT, WIDTH)))


def test_a_rectangle_without_a_height_is_no_key_point():
    with pytest.raises(ShapeError, match="height"):
        mask_of(region(x=10, y=10, width=20))


# --- where it applies -----------------------------------------------------------------------------


def test_other_images_and_other_tags_are_ignored():
    choice = {"type": "choices", "from_name": "review", "to_name": "image", "value": {"choices": ["x"]}}
    relation = {"type": "relation", "from_id": "a", "to_id": "b", "direction": "right"}
    other_image = box(0, 0, 90, 60, to_name="second")
    other_tag = box(0, 0, 90, 60, from_name="lesions")
    mask = mask_of(box(0, 0, 30, 60), choice, relation, other_image, other_tag)
    assert np.array_equal(mask, np.broadcast_to(LEFT, (HEIGHT, WIDTH)))


@pytest.mark.parametrize("kind", ["videorectangle", "timeserieslabels", "audio", "vectorlabels"])
def test_regions_that_are_no_masks_are_refused_by_name(kind):
    with pytest.raises(RegionTypeError, match=kind):
        mask_of(region(kind, name="r7"))


def test_sound_and_drafts_are_refused():
    with pytest.raises(RegionTypeError):
        mask_of(region("labels", start=1.0, end=2.0, channel=0))
    with pytest.raises(RegionTypeError, match="draft"):
        mask_of(region("brushlabels", format="rle", touches=[{"points": [1, 2]}]))


def test_a_region_on_a_later_image_of_a_list_is_refused():
    with pytest.raises(RegionTypeError, match="list of images"):
        mask_of({**region(), "item_index": 2})


def test_a_turned_view_does_not_turn_the_mask():
    item = brush(LEFT)
    assert np.array_equal(mask_of({**item, "image_rotation": 90}), mask_of(item))


@pytest.mark.parametrize("key", ["original_width", "original_height"])
def test_a_region_of_another_size_is_refused(key):
    with pytest.raises(MaskSizeError, match=key):
        mask_of({**region(), key: 1})


def test_the_message_names_the_region_and_the_reason():
    item = brush(LEFT, name="Xy-12")
    item["value"]["rle"] = item["value"]["rle"][:-4]
    with pytest.raises(RleTruncatedError, match=r"Region 'Xy-12' cannot be used: .* before the last pixel\."):
        mask_of(item)
    item["value"]["rle"] = [300]
    with pytest.raises(RleValueError, match="Xy-12"):
        mask_of(item)


def test_alpha_counts_from_128_on():
    alpha = np.tile(np.uint8([127, 128]), (HEIGHT, WIDTH // 2))
    mask = mask_of(region("brushlabels", format="rle", rle=encode_rle(alpha)))
    assert np.array_equal(mask, alpha == 128)


# --- shapes ---------------------------------------------------------------------------------------


def centres():
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    return columns, rows


@pytest.mark.slow
@given(*[st.floats(-20, 120)] * 2, *[st.floats(0, 150)] * 2, st.floats(-360, 720))
def test_a_rectangle_turns_about_its_top_left_corner(x, y, width, height, rotation):
    mask = mask_of(region(x=x, y=y, width=width, height=height, rotation=rotation))
    columns, rows = centres()
    angle = np.radians(rotation)
    right, down = columns - x * WIDTH / 100, rows - y * HEIGHT / 100
    along, across = right * np.cos(angle) + down * np.sin(angle), down * np.cos(angle) - right * np.sin(angle)
    inside = np.minimum.reduce([along, width * WIDTH / 100 - along, across, height * HEIGHT / 100 - across])
    assert mask[inside > 1e-6].all()
    assert not mask[inside < -1e-6].any()


@pytest.mark.slow
@given(*[st.floats(-20, 120)] * 2, *[st.floats(0.5, 80)] * 2, st.floats(-360, 720))
def test_an_ellipse_turns_about_its_centre(x, y, radius_x, radius_y, rotation):
    value = {"x": x, "y": y, "radiusX": radius_x, "radiusY": radius_y, "rotation": rotation}
    mask = mask_of(region("ellipselabels", **value))
    columns, rows = centres()
    angle = np.radians(rotation)
    right, down = columns - x * WIDTH / 100, rows - y * HEIGHT / 100
    along = (right * np.cos(angle) + down * np.sin(angle)) / (radius_x * WIDTH / 100)
    across = (down * np.cos(angle) - right * np.sin(angle)) / (radius_y * HEIGHT / 100)
    distance = np.hypot(along, across)
    assert mask[distance < 1 - 1e-6].all()
    assert not mask[distance > 1 + 1e-6].any()


SIDES = st.floats(-90, 90)


@pytest.mark.slow
@given(*[st.floats(-20, 120)] * 2, SIDES, SIDES, st.sampled_from([0, 30, 90, -45, 200]))
def test_a_side_below_zero_reaches_the_other_way_from_the_same_corner(x, y, width, height, rotation):
    """As the editor shows it: the turned frame stays, the rectangle lies on the other side of its axes."""
    mask = mask_of(region(x=x, y=y, width=width, height=height, rotation=rotation))
    columns, rows = centres()
    angle = np.radians(rotation)
    right, down = columns - x * WIDTH / 100, rows - y * HEIGHT / 100
    along, across = right * np.cos(angle) + down * np.sin(angle), down * np.cos(angle) - right * np.sin(angle)
    along, across = along * np.sign(width), across * np.sign(height)
    sides = abs(width) * WIDTH / 100, abs(height) * HEIGHT / 100
    inside = np.minimum.reduce([along, sides[0] - along, across, sides[1] - across])
    assert mask[inside > 1e-6].all()
    assert not mask[inside < -1e-6].any()


@pytest.mark.parametrize("signs", [(-1, 1), (1, -1), (-1, -1)])
def test_a_radius_has_no_sign(signs):
    ellipse = {"x": 40, "y": 50, "radiusX": 30, "radiusY": 15, "rotation": 35}
    turned = ellipse | {"radiusX": signs[0] * 30, "radiusY": signs[1] * 15}
    one, other = (mask_of(region("ellipselabels", **value)) for value in (ellipse, turned))
    assert one.any()
    assert np.array_equal(one, other)


def test_an_ellipse_without_area_covers_nothing():
    assert not mask_of(region("ellipselabels", x=50, y=50, radiusX=0, radiusY=20)).any()


def test_a_polygon_that_crosses_itself_is_filled_throughout():
    star = [[20, 20], [80, 30], [30, 80], [50, 10], [70, 85]]
    mask = mask_of(region("polygonlabels", points=star, closed=True))
    assert mask[HEIGHT // 2, WIDTH // 2]  # with even-odd filling this would be a hole
    assert not mask[5, 5]


@pytest.mark.slow
def test_large_polygons_are_filled_band_by_band():
    angle = np.linspace(0, 2 * np.pi, 5001)[:-1]
    points = np.stack([50 + 40 * np.cos(angle), 50 + 40 * np.sin(angle)], axis=1).tolist()
    item = region("polygonlabels", points=points) | {"original_width": 700, "original_height": 500}
    circle = region("ellipselabels", x=50, y=50, radiusX=40, radiusY=40) | {
        "original_width": 700,
        "original_height": 500,
    }
    one, other = (annotation_mask([item], MAPPING, 700, 500) for item in (item, circle))
    assert dice(one, other) > 0.9999


@pytest.mark.parametrize(
    "number", [float("nan"), float("inf"), -float("inf"), 1e300, 10**400, "5", None, True, [1]]
)
@pytest.mark.parametrize("key", ["x", "y", "width", "height", "rotation"])
def test_numbers_that_are_none_are_refused(key, number):
    item = region()
    item["value"][key] = number
    with pytest.raises(ShapeError, match=key):
        mask_of(item)


@pytest.mark.parametrize(
    "value",
    [
        {"points": [[1, 1], [50, 50]]},
        {"points": [[1, 1], [50, 50], [1, float("nan")]]},
        {"points": [[1, 1], [50, 50], [1]]},
        {"points": [[1, 1], [50, 50], "ab"]},
        {"points": [[1, 1], [50, 50], [90, 1]], "closed": False},
        {"points": [[1, 1]] * 10_001},
        {"points": "abcdef"},
        {"points": None},
        {"x": 0, "y": 0, "radiusX": 5},
    ],
)
def test_shapes_that_are_none_are_refused(value):
    with pytest.raises(ShapeError):
        mask_of(region("polygonlabels", **value))


# --- bitmasks and stored masks --------------------------------------------------------------------


def painted(mask):
    pixels = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    pixels[..., 3] = np.where(mask, 255, 0)
    return Image.fromarray(pixels)


def test_a_bitmask_is_what_is_not_transparent():
    assert np.array_equal(mask_of(bitmask(painted(LEFT & TOP))), LEFT & TOP)
    palette = painted(LEFT & TOP).quantize(4)
    assert np.array_equal(mask_of(bitmask(palette)), LEFT & TOP)


def test_a_bitmask_of_another_size_is_refused_before_it_is_decoded(monkeypatch):
    huge = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", (60_000).to_bytes(4, "big") * 2 + bytes([8, 6, 0, 0, 0]))
    huge += chunk(b"IDAT", zlib.compress(bytes(1 << 20)))
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile", None)  # not even opened
    url = "data:image/png;base64," + base64.b64encode(huge).decode()
    with pytest.raises(MaskSizeError, match="60000 x 60000"):
        mask_of(region("bitmasklabels", imageDataURL=url))


def chunk(kind, data):
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")


@pytest.mark.parametrize(
    "url",
    [
        None,
        7,
        "",
        "data:image/png;base64,",
        "data:image/png;base64,%%%",
        "data:image/png;base64,AAAA",
        "data:image/svg+xml;base64,AAAA",
        "https://example.com/mask.png",
        "data:image/png;base64," + base64.b64encode(mask_to_png(np.ones((HEIGHT, WIDTH), bool))).decode(),
    ],
)
def test_bitmasks_that_are_none_are_refused(url):
    with pytest.raises(BitmaskError):
        mask_of(region("bitmasklabels", imageDataURL=url))


@pytest.mark.parametrize(("width", "height"), [(1, 1), (7, 3), (8, 8), (331, 517)])
def test_a_stored_mask_comes_back(tmp_path, width, height):
    mask = np.random.default_rng(0).random((height, width)) < 0.5
    data = mask_to_png(mask)
    assert Image.open(io.BytesIO(data)).mode == "1"
    assert np.array_equal(mask_from_png(data, width, height), mask)
    path = tmp_path / "mask.png"
    path.write_bytes(data)
    assert np.array_equal(mask_from_png(path, width, height), mask)
    with pytest.raises(MaskSizeError):
        mask_from_png(path, width + 1, height)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_damaged_png_raises_nothing_but_our_errors(data):
    png = bytearray(mask_to_png(np.random.default_rng(0).random((HEIGHT, WIDTH)) < 0.5))
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(st.integers(8, len(png) - 1))
        png[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    try:
        assert mask_from_png(bytes(png), WIDTH, HEIGHT).shape == (HEIGHT, WIDTH)
    except MaskError as error:
        assert str(error)


# --- several annotators ---------------------------------------------------------------------------

VOTES = [
    np.array([mask]) for mask in ([True, True, True, False], [True, True, False, False], [True, False] * 2)
]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("latest", [True, False, True, False]),
        ("union", [True, True, True, False]),
        ("intersection", [True, False, False, False]),
        ("majority", [True, True, True, False]),
    ],
)
def test_masks_are_combined_by_policy(policy, expected):
    assert combine_masks(VOTES, policy).tolist() == [expected]


def test_half_is_no_majority():
    assert combine_masks(VOTES[1:], "majority").tolist() == [[True, False, False, False]]


@pytest.mark.parametrize("policy", POLICIES)
def test_one_mask_is_itself_by_every_policy(policy):
    combined = combine_masks(VOTES[:1], policy)
    assert np.array_equal(combined, VOTES[0])
    assert not np.shares_memory(combined, VOTES[0])


def test_masks_that_cannot_be_combined_are_refused():
    with pytest.raises(MaskError, match="policy"):
        combine_masks(VOTES, "first")
    with pytest.raises(MaskError):
        combine_masks([])
    with pytest.raises(MaskError, match="size"):
        combine_masks([VOTES[0], VOTES[0].T])


def test_dice_is_agreement():
    assert dice(LEFT, LEFT) == 1
    assert dice(LEFT, ~LEFT) == 0
    assert dice(np.zeros(4, bool), np.zeros(4, bool)) == 1
    assert dice(VOTES[0], VOTES[1]) == pytest.approx(4 / 5)


# --- whatever anybody writes ----------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KEYS = [*region(), "item_index"]
VALUE_KEYS = [
    "rle",
    "imageDataURL",
    "points",
    "x",
    "y",
    "width",
    "height",
    "rotation",
    "radiusX",
    "radiusY",
    "labels",
]


@pytest.mark.slow
@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(
        [region(), brush(LEFT), bitmask(painted(LEFT)), region("polygonlabels", points=[[0, 0]] * 3)]
    ),
    st.dictionaries(st.sampled_from(KEYS), JSON, max_size=2),
    st.dictionaries(st.sampled_from(VALUE_KEYS), JSON, max_size=3),
)
def test_any_result_raises_nothing_but_our_errors(item, changes, value_changes):
    changed = {**item, "value": {**item["value"], **value_changes}, **changes}
    try:
        mask = mask_of(changed)
    except MaskError as error:
        assert len(str(error)) < 1000
        return
    assert (mask.dtype, mask.shape) == (bool, (HEIGHT, WIDTH))


@pytest.mark.slow
@given(st.lists(JSON, max_size=3))
def test_results_that_are_none_raise_nothing_but_our_errors(result):
    try:
        assert not mask_of(*result).any()
    except MaskError as error:
        assert str(error)


@pytest.mark.parametrize(
    ("height", "width", "size"), [(7, 9, (3, 2)), (64, 48, (16, 16)), (101, 33, (10, 11))]
)
def test_a_small_mask_says_how_much_of_each_pixel_is_masked(
    height: int, width: int, size: tuple[int, int]
) -> None:
    mask = np.random.default_rng(height).random((height, width)) < 0.4
    picture = Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)).resize(size, Image.Resampling.BOX)
    coverage = mask_coverage(mask, *size)
    assert coverage.shape == (size[1], size[0])
    assert abs(coverage * 255 - np.asarray(picture, float)).max() <= 1  # in register with the image
    assert coverage.mean() == pytest.approx(mask.mean(), abs=0.02)
