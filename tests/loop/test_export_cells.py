from __future__ import annotations

import pytest

from imil_backend.loop.views.image_export import as_text


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("=1+1.png", "'=1+1.png"),
        ("+A1", "'+A1"),
        ("-2", "'-2"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t'=1"),
        (" =1", "' =1"),
        ("\uff1dHYPERLINK()", "'\uff1dHYPERLINK()"),
        ("x;=1", "x;'=1"),
        ('x"\n=1', "x\"\n'=1"),
        ("sick/a-b.png", "sick/a-b.png"),
        (0.5, 0.5),
        (-0.5, -0.5),
        (None, None),
    ],
)
def test_no_cell_is_a_formula(value: object, written: object) -> None:
    assert as_text(value) == written
