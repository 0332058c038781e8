"""The arms of a comparison: ways to go on from one intermediate state, in as many steps.

Each has its usual settings, and none is tuned. The best epoch on validation is taken in all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from imil_backend.errors import SettingsError
from imil_backend.learning.contract.training_job import Recipe

UNCHANGED = "unchanged"


@dataclass(frozen=True)
class Arm:
    """One way to go on.

    Attributes:
        meaning: what is done, in a sentence's part.
        source: where it comes from; empty: from this project.
        recipe: what differs from the recipe of going on unchanged.
        chosen: the images that are asked about: the mispredictions of the intermediate model, as a round asks
            them; as many random ones with the same classes; all; or nobody is asked.
        masks: what the arm gets of them: their masks, each other's masks, or none.
        retraining: what follows after going on unchanged: another last layer, see `trainings/last_layer.py`,
            or a last epoch, see `trainings/attention.py`.
    """

    meaning: str
    source: str = ""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    chosen: Literal["nobody", "mispredicted", "random", "all"] = "nobody"
    masks: Literal["none", "own", "shuffled"] = "none"
    retraining: Literal["dfr", "self", "masktune"] | None = None

    @property
    def needs_every_mask(self) -> bool:
        """Whether it needs masks of images that no clinician has been asked about."""
        return self.chosen in {"random", "all"}

    @property
    def trainings(self) -> int:
        """How many it takes: another last layer none; MaskTune one more, up to the last epoch."""
        return {"dfr": 0, "self": 0, "masktune": 2}.get(self.retraining or "", 1)

    def of(self, recipe: Recipe) -> Recipe:
        """The recipe of going on this way."""
        return replace(recipe, **self.recipe)


_COUNTER = {"correction": "counterexample"}
_SPREAD = {**_COUNTER, "spread": True}
_ASKED: Mapping[str, Any] = {"chosen": "mispredicted", "masks": "own"}
WEIGHT = 5  # as of docs/correction.md

ARMS: dict[str, Arm] = {
    UNCHANGED: Arm("going on with the images as they are"),
    "blackout": Arm(
        "blackouts in the place of the asked images",
        "Rao et al. 2024 (IMIL)",
        {"correction": "blackout"},
        **_ASKED,
    ),
    "beside": Arm("blackouts in half of the draws", "", {"correction": "beside"}, **_ASKED),
    "counterexample": Arm(
        "counterexamples of the asked images", "after Teso and Kersting 2019 (CAIPI)", _COUNTER, **_ASKED
    ),
    "spread": Arm("counterexamples of all images, by proposed masks", "", _SPREAD, **_ASKED),
    "spread-weighted": Arm(
        f"the same, asked images drawn {WEIGHT} times as often",
        "",
        {**_SPREAD, "confirmed_weight": WEIGHT},
        **_ASKED,
    ),
    "auto": Arm(
        "counterexamples as strong as does best in quick trainings", "", {"correction": "auto"}, **_ASKED
    ),
    "random": Arm(
        "as spread, but random images of the same classes are painted", "", _SPREAD, "random", "own"
    ),
    "shuffled": Arm(
        "as spread, but each asked image has another one's mask (placebo)",
        "",
        _SPREAD,
        "mispredicted",
        "shuffled",
    ),
    "jtt": Arm(
        f"asked images drawn {WEIGHT} times as often, without masks",
        "Liu et al. 2021 (Just Train Twice)",
        {"confirmed_weight": WEIGHT},
        "mispredicted",
    ),
    "random-erasing": Arm("random erasing", "Zhong et al. 2020", {"augmentation": "random-erasing"}),
    "cutout": Arm("cutout", "DeVries and Taylor 2017", {"augmentation": "cutout"}),
    "mixup": Arm("mixup, alpha 0.2", "Zhang et al. 2018", {"augmentation": "mixup"}),
    "cutmix": Arm("CutMix, alpha 1", "Yun et al. 2019", {"augmentation": "cutmix"}),
    "augmix": Arm("AugMix, severity 3", "Hendrycks et al. 2020", {"augmentation": "augmix"}),
    "randaugment": Arm("RandAugment, 2 of magnitude 9", "Cubuk et al. 2020", {"augmentation": "randaugment"}),
    "trivialaugment": Arm("TrivialAugmentWide", "Müller and Hutter 2021", {"augmentation": "trivialaugment"}),
    "autoaugment": Arm(
        "AutoAugment, the policy for ImageNet", "Cubuk et al. 2019", {"augmentation": "autoaugment"}
    ),
    "masktune": Arm(
        "a last epoch without what the network looked at most",
        "Asgari et al. 2022 (MaskTune)",
        retraining="masktune",
    ),
    "dfr": Arm(
        "last layer retrained on half of validation, balanced by class and known marker",
        "Kirichenko et al. 2023 (DFR)",
        retraining="dfr",
    ),
    "self": Arm(
        "last layer fine-tuned on half of validation, where it disagrees with the intermediate model",
        "LaBonte et al. 2023 (SELF)",
        retraining="self",
    ),
    "upper": Arm(
        "as counterexample, with every image's true mask (no clinician paints that much)",
        "",
        _COUNTER,
        "all",
        "own",
    ),
}


def arms_of(names: tuple[str, ...]) -> dict[str, Arm]:
    """The arms of these names, going on unchanged first.

    Raises:
        SettingsError: there is no such arm.
    """
    for name in names:
        if name not in ARMS:
            raise SettingsError(f"There is no arm {name!r}; choose from {', '.join(ARMS)}.")
    return {name: ARMS[name] for name in dict.fromkeys((UNCHANGED, *names))}
