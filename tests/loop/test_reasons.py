from __future__ import annotations

from imil_backend.loop.importing.reasons import Reason, by_reason


def test_reasons_that_differ_in_names_and_figures_alone_are_counted_as_one() -> None:
    found = by_reason(
        [
            ("a/film 1.png", "film 1.png is 40 x 40, 1,600 pixels; the limit is 1,024."),
            ("a/b.png", "Its mask b_mask.png does not exist."),
            ("a/other.png", "other.png is 50 x 60, 3,000 pixels; the limit is 1,024."),
            ("a/c.png", "Its split is 'fold'; it must be train, validation or test."),
            ("d/d.png", "Its mask d_mask.png does not exist."),
            ("d/e.png", "Its mask e_mask.png does not exist."),
            ("d/f.png", "Its split is 'x y'; it must be train, validation or test."),
            ("d/g.png", "Its mask g_mask.png does not exist."),
            ("", "The image or the label is empty."),
        ]
    )
    assert [each.count for each in found] == [4, 2, 2, 1]
    assert found[0] == Reason(4, "Its mask b_mask.png does not exist.", ("a/b.png", "d/d.png", "d/e.png"))
    assert by_reason([]) == ()
