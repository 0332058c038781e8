from __future__ import annotations

import pytest

from imil_backend.errors import SettingsError
from imil_backend.loop.base.policy import Policy, change_recipe, changed_policy, policy_of, recipe_of
from imil_backend.store.tables import Dataset


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("budget", 0),
        ("close_share", 1.1),
        ("promotion_margin", 0),
        ("promotion_margin", 1),
        ("recall_margin", 0),
        ("auc_margin", 1),
        ("close_after_hours", -1),
    ],
)
def test_a_policy_that_no_round_could_follow_is_refused_by_its_field(field: str, value: float) -> None:
    with pytest.raises(SettingsError, match=field):
        Policy(**{field: value})


def test_what_is_not_named_stays_as_it_is() -> None:
    dataset = Dataset(policy={"budget": 0.1}, recipe={"epochs": 4})
    assert changed_policy(dataset, {"budget": None, "close_share": 0.5}) == Policy(
        budget=0.1, close_share=0.5
    )
    change_recipe(dataset, {"epochs": None, "seed": 7})
    assert (recipe_of(dataset).epochs, recipe_of(dataset).seed) == (4, 7)


def test_a_field_of_another_version_is_passed_over() -> None:
    assert policy_of(Dataset(policy={"budget": 0.1, "gone": 1})) == Policy(budget=0.1)


def test_a_recipe_that_nothing_can_be_trained_by_is_refused_at_once() -> None:
    with pytest.raises(SettingsError, match="mining_epoch"):
        change_recipe(Dataset(policy={}, recipe={}), {"epochs": 2, "mining_epoch": 2})
