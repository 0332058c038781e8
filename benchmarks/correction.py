"""What correction brings: the product's training, with and without what clinicians paint, in paired seeds.

    python -m benchmarks correction --work DIR [--data xrays|phantoms] [--seeds N] [--arms ARM ...]
        [--kinds square letter tube drain square+letter none ...] [--agreement SHARE ...]
        [--painted SHARE ...] [--masks marker|surroundings] [--trainable layer4|all] [--against ARM]
        [--ask mispredicted|mixed|disagreement ...]
        [--json FILE] [--quick]

A seed draws films by patient, plants a marker that tells the class in most training and validation films
(95 %, as a data set from one place has it) and in half of the test films, and trains a baseline. Its
mispredictions are asked as a round asks them (4 % of the training films, the most instructive first; where
fewer are wrong, the least certain as well, `--fill-budget`), and a **simulated** clinician paints the marker,
a pixel wider, or everything but the lungs. Then every arm goes on from the same intermediate state in as many
steps. The best epoch on the validation split is the version, as always; what is reported is the test split
(of X-rays the official one), which decides nothing.

| arm | what is made of the asked films |
|---|---|
| unchanged | nothing |
| blackout | their blackouts, in their place (the paper) |
| weight5, weight10 | drawn 5 or 10 times as often; no masks (Liu et al. 2021, Just Train Twice) |
| beside | their blackouts in half of their draws |
| counterexample | in half of their draws the marker of another one |
| counterexample10 | the same in 80 % of their draws, drawn 10 times as often |
| spread, spread5 | their masks proposed for all films, counterexamples of all; asked ones 5 times as often |
| auto | whichever of four strengths serves best in quick trainings, see docs/correction.md |
| upper | true masks of all training films, counterexamples of all: no clinician paints that much |

X-rays: 800 films to train on, 200 to validate, the 624 official test films, 64 px, ImageNet weights; with
layer4 only the last stage is trained, without augmentation, in the baseline too. Phantoms: 1,000 as
`imil phantoms` draws them, all layers, as in the quick start. Markers: a square tag or a letter in an upper
corner, a tube, a drain that only the sick have, several at once (square+letter), or none.

Every finished run is one line of DIR/results.jsonl; given again, the command goes on where it was
interrupted. What has changed in the training since is not noticed: then take another DIR.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.planting import (
    MARKERS,
    PHANTOM_SIZE,
    PHANTOMS,
    Films,
    draw_phantoms,
    plant_in_xrays,
)
from benchmarks.report import archive_of, machine
from imil_backend.learning.child.state.checkpoint import load_state, save_state
from imil_backend.learning.contract.launch import run_training
from imil_backend.learning.contract.proposed import PROPOSED_FILE, read_proposed
from imil_backend.learning.contract.training_job import (
    INTERMEDIATE_FILE,
    MINING_FILE,
    MODEL_FILE,
    PREDICTIONS_FILE,
    STRENGTH_FILE,
    Recipe,
    TrainingJob,
    TrainingSample,
    read_json,
    write_training_job,
)
from imil_backend.learning.networks.imagenet_weights import fetch_weights
from imil_backend.learning.networks.network import load_model
from imil_backend.learning.scoring.ranking import ASKED, budget_of, rank_mispredictions
from imil_backend.loop.comparing.statistics.measures import Answers, measures_of
from imil_backend.loop.comparing.statistics.paired import Estimate, Paired

REFERENCE = "unchanged"
NO_SHORTCUT = 0.5  # agreement at which a marker tells nothing
MEASURES = measures_of(["class 0", "class 1"])
QUICK_PHANTOMS, QUICK_SIZE = 40, 64


@dataclass(frozen=True)
class Arm:
    """What is made of the asked films."""

    recipe: dict[str, Any] = field(default_factory=dict)
    masks: str = "none"  # or asked, or all training films'


_COUNTER = {"correction": "counterexample"}
ARMS = {
    REFERENCE: Arm(),
    "blackout": Arm({"correction": "blackout"}, "asked"),
    "weight5": Arm({"confirmed_weight": 5}),
    "weight10": Arm({"confirmed_weight": 10}),
    "beside": Arm({"correction": "beside"}, "asked"),
    "counterexample": Arm(_COUNTER, "asked"),
    "counterexample10": Arm({**_COUNTER, "correction_share": 0.8, "confirmed_weight": 10}, "asked"),
    "spread": Arm({**_COUNTER, "spread": True}, "asked"),
    "spread5": Arm({**_COUNTER, "spread": True, "confirmed_weight": 5}, "asked"),
    "auto": Arm({"correction": "auto"}, "asked"),
    "upper": Arm(_COUNTER, "all"),
}
# Everything else is as it comes. Equal bits on one machine, so that a baseline can be made again.
RECIPES = {
    "layer4": Recipe(
        image_size=64, epochs=8, mining_epoch=2, learning_rate=0.01,
        trainable="layer4", augmentation="none", deterministic=True,
    ),
    "all": Recipe(image_size=64, epochs=6, deterministic=True),
}  # fmt: skip
QUICK = {"image_size": 32, "epochs": 2, "mining_epoch": 1, "pretrained": False}


@dataclass(frozen=True)
class Setting:
    """What is compared in; arms are, within one."""

    data: str
    kinds: str  # joined by +, or none
    agreement: float
    painted: float  # share of the training films
    masks: str
    trainable: str
    quick: bool
    ask: str = "mispredicted"

    @property
    def recipe(self) -> Recipe:
        """Of the baseline."""
        recipe = RECIPES[self.trainable]
        return replace(recipe, **QUICK) if self.quick else recipe


@dataclass(frozen=True)
class Given:
    """What a trial is made with."""

    work: Path
    archive: Path | None  # of X-rays
    weights: Path | None


class Results:
    """One JSON line a finished run; a line that a kill cut off is forgotten."""

    def __init__(self, path: Path) -> None:
        self._path = path
        content = path.read_bytes() if path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            path.write_bytes(whole)
        self.lines: list[dict[str, Any]] = [json.loads(line) for line in whole.splitlines()]

    def find(self, setting: Setting, seed: int, arm: str) -> dict[str, Any] | None:
        """The run, or None."""
        key = {"setting": asdict(setting), "seed": seed, "arm": arm}
        return next((line for line in self.lines if key.items() <= line.items()), None)

    def add(self, line: dict[str, Any]) -> None:
        """Keep a finished run."""
        self.lines.append(line)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, separators=(",", ":")) + "\n")
            file.flush()
            os.fsync(file.fileno())


class Trial:
    """One seed in one setting: the films, the baseline and who is asked."""

    def __init__(self, setting: Setting, seed: int, given: Given) -> None:
        self._setting, self._seed, self._given = setting, seed, given
        self._scratch = given.work / "seed"
        shutil.rmtree(self._scratch, ignore_errors=True)  # of a run that was killed
        self.films = _films(setting, seed, self._scratch / "films", given.archive)
        baseline = self._scratch / "baseline"
        _train(baseline, self._job("baseline", setting.recipe), self.films.samples)
        self._intermediate = baseline / INTERMEDIATE_FILE
        if setting.trainable != "all":
            complete(self._intermediate, baseline / MODEL_FILE)
        self._records = read_json(baseline / MINING_FILE)

    def __enter__(self) -> Trial:
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._scratch)

    def run(self, name: str, painted: float) -> dict[str, Any]:
        """Train an arm; what is written down of it."""
        arm = ARMS[name]
        asked = [
            record["key"]
            for record in rank_mispredictions(
                self._records,
                budget=budget_of(len(self._records), painted),
                ask=self._setting.ask,
                fill_with_uncertain=True,
            )
        ]
        job = self._job(name, replace(self._setting.recipe, **arm.recipe))
        job = replace(job, resume_from=str(self._intermediate), round_number=1)
        directory = self._scratch / name
        began = time.monotonic()
        result = _train(directory, job, self._answered(arm, set(asked)))
        seconds = time.monotonic() - began
        answers = self._answers(read_json(directory / PREDICTIONS_FILE)["test"])
        spread = _spread(directory) if result["recipe"]["spread"] else {}
        strength = directory / STRENGTH_FILE
        chosen = {"strength": read_json(strength)["chosen"]} if strength.exists() else {}
        shutil.rmtree(directory)
        return {
            "setting": asdict(replace(self._setting, painted=painted)),
            "seed": self._seed,
            "arm": name,
            "seconds": seconds,
            "best_epoch": result["best_epoch"],
            "validation": result["metrics"]["validation"],
            "asked": len(asked),
            "asked contradicting": len(self.films.contradicting.intersection(asked)),
            **spread,
            **chosen,
            "test": answers,
        }

    def _job(self, name: str, recipe: Recipe) -> TrainingJob:
        weights = str(self._given.weights) if recipe.pretrained else None
        recipe = replace(recipe, seed=self._seed)
        cache = str(self._scratch / "cache")
        return TrainingJob(name, self.films.classes, 1, recipe, cache, weights=weights)

    def _answered(self, arm: Arm, asked: set[str]) -> list[TrainingSample]:
        """The samples after the round: what was asked is confirmed, and painted where the arm paints."""
        painted = {"none": set(), "asked": asked, "all": set(self.films.painted)}[arm.masks]
        samples = []
        for sample in self.films.samples:
            answered = replace(sample, confirmed=sample.key in asked)
            mask = self.films.painted.get(sample.key) if sample.key in painted else None
            samples.append(mask.onto(answered) if mask else answered)
        return samples

    def _answers(self, predictions: dict[str, Any]) -> dict[str, list[Any]]:
        _, groups = np.unique(np.array(predictions["groups"], np.str_), return_inverse=True)
        return {
            "labels": predictions["labels"],
            "scores": [round(probabilities[1], 6) for probabilities in predictions["probabilities"]],
            "groups": groups.tolist(),
            "contradicts": [int(key in self.films.contradicting) for key in predictions["keys"]],
        }


def _train(directory: Path, job: TrainingJob, samples: list[TrainingSample]) -> dict[str, Any]:
    write_training_job(directory, job, samples)
    return run_training(directory)


def _spread(directory: Path) -> dict[str, Any]:
    """Whether a training's proposed masks were good enough to be spread, and how good."""
    path = directory / PROPOSED_FILE
    if not path.exists():  # nobody has painted anything
        return {"spread": False, "dice": None}
    _, proposed = read_proposed(path)
    return {"spread": proposed.usable, "dice": proposed.quality.mean}


def _films(setting: Setting, seed: int, directory: Path, archive: Path | None) -> Films:
    image_size, surroundings = setting.recipe.image_size, setting.masks == "surroundings"
    if setting.data == "phantoms":
        count, size = (QUICK_PHANTOMS, QUICK_SIZE) if setting.quick else (PHANTOMS, PHANTOM_SIZE)
        return draw_phantoms(
            directory, count=count, size=size, surroundings=surroundings, image_size=image_size, seed=seed
        )
    assert archive is not None
    return plant_in_xrays(
        archive,
        directory,
        kinds=[] if setting.kinds == "none" else setting.kinds.split("+"),
        agreement=setting.agreement,
        surroundings=surroundings,
        image_size=image_size,
        seed=seed,
    )


def complete(intermediate: Path, model: Path) -> None:
    """Make an intermediate state of the last layers one of the whole network, for rounds to go on from.

    The product's baselines train whole networks. Here, as in a quick round, the layers before are those that
    the model has too; they were not trained, and have no momentum.
    """
    state = load_state(intermediate)
    network, _ = load_model(model)
    names = [name for name, _ in network.named_parameters()]
    before = len(names) - sum(name in state["network"] for name in names)  # the trained ones are the last
    state["network"] = {**network.state_dict(), **state["network"]}
    moments = state["optimizer"]["state"]
    state["optimizer"]["state"] = {number + before: moment for number, moment in moments.items()}
    for group in state["optimizer"]["param_groups"]:
        group["params"] = list(range(len(names)))
    save_state(intermediate, state)


def measure(
    settings: Sequence[Setting], painted: Sequence[float], arms: Sequence[str], seeds: int, given: Given
) -> Results:
    """Run what is missing; baselines are shared by all shares that are painted."""
    results = Results(given.work / "results.jsonl")
    for seed in range(seeds):
        for setting in settings:
            wanted = [(share, arm) for share in painted for arm in arms]
            missing = [
                (share, arm)
                for share, arm in wanted
                if results.find(replace(setting, painted=share), seed, arm) is None
            ]
            if not missing:
                continue
            with Trial(setting, seed, given) as trial:
                for share, arm in missing:
                    line = trial.run(arm, share)
                    results.add(line)
                    print(
                        f"{_told(replace(setting, painted=share))}, seed {seed}, {arm}: accuracy "
                        f"{_answers_of(line).right.mean():.3f}, {line['seconds']:.0f} s",
                        flush=True,
                    )
    return results


def summarize(results: Results, setting: Setting, arms: Sequence[str], seeds: int, against: str) -> dict:
    """Of one setting, over the seeds in which every arm has run: a row for each arm."""
    runs = {arm: [results.find(setting, seed, arm) for seed in range(seeds)] for arm in arms}
    cured = replace(setting, agreement=NO_SHORTCUT, ask="mispredicted")  # going on unchanged asks nobody
    uncut = [results.find(cured, seed, REFERENCE) for seed in range(seeds)]
    answers = {arm: [_answers_of(run) for run in found] for arm, found in runs.items()}
    if cured != setting and all(uncut):
        answers["no shortcut"] = [_answers_of(run) for run in uncut]
    comparison = Paired(answers, MEASURES)
    rows = []
    for arm in arms:
        row: dict[str, Any] = {"arm": arm, "seeds": seeds}
        for name, measure in MEASURES.items():
            value = comparison.estimate(arm, name)
            row[measure.title] = value and value.value
            if arm != against and value:
                row[f"{measure.title}, difference"] = _written(comparison.difference(arm, against, name))
        if "no shortcut" in answers and arm != REFERENCE:
            row["regained"] = _written(comparison.regained(arm, REFERENCE, "no shortcut", "accuracy"))
        for name in ("seconds", "asked", "asked contradicting", "best_epoch"):
            row[name] = statistics.fmean(run[name] for run in runs[arm])
        if ARMS[arm].recipe.get("spread"):
            measured = [run["dice"] for run in runs[arm] if run["dice"] is not None]
            row["spread in"] = sum(run["spread"] for run in runs[arm])
            row["dice"] = statistics.fmean(measured) if measured else None
        if "strength" in runs[arm][0]:
            row["strengths"] = Counter(run["strength"] for run in runs[arm])
        rows.append(row)
    return {"setting": asdict(setting), "against": against, "simulated": True, "rows": rows}


def _written(found: Estimate | None) -> dict[str, Any] | None:
    """With what the seeds come to one by one, for of few seeds an interval says little."""
    if found is None:
        return None
    return {**asdict(found), "least": min(found.by_seed), "most": max(found.by_seed)}


def table(summary: dict[str, Any]) -> str:
    """A summary in Markdown."""
    shown = ["accuracy", "balanced accuracy", "AUC"]
    regained = any("regained" in row for row in summary["rows"])
    head = ["arm", "seeds", *(each for name in shown for each in (name, "difference")), "conflict", "agree"]
    head += [*(["regained"] if regained else []), "recalls", "asked (contradicting)"]
    head += ["proposed masks: Dice (spread in so many seeds)", "s"]
    lines = [head, ["---"] * len(head)]
    for row in summary["rows"]:
        chosen = ", ".join(f"{name} {count}" for name, count in row.get("strengths", {}).items())
        cells = [row["arm"] + (f" ({chosen})" if chosen else ""), str(row["seeds"])]
        for name in shown:
            cells += [f"{row[name]:.3f}", _difference(row.get(f"{name}, difference"))]
        cells += [_number(row[MEASURES[side].title]) for side in ("conflict", "agree")]
        if regained:
            cells.append(_share(row.get("regained")))
        cells.append(f"{row['recall of class 0']:.3f}, {row['recall of class 1']:.3f}")
        cells.append(f"{row['asked']:.0f} ({row['asked contradicting']:.0f})")
        cells.append(f"{_number(row['dice'])} ({row['spread in']})" if "dice" in row else "")
        cells.append(f"{row['seconds']:.0f}")
        lines.append(cells)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _difference(value: dict[str, Any] | None) -> str:
    if value is None:
        return ""
    interval = f"{value['lower']:+.3f} to {value['upper']:+.3f}"
    return f"{value['value']:+.3f} ({interval}; seeds {value['least']:+.3f} to {value['most']:+.3f})"


def _share(value: dict[str, Any] | None) -> str:
    return "" if value is None else f"{value['value']:.0%} ({value['lower']:.0%} to {value['upper']:.0%})"


def _answers_of(run: dict[str, Any]) -> Answers:
    test = run["test"]
    positive = np.array(test["scores"], np.float64)
    return Answers(
        np.array(test["labels"], np.int64),
        np.stack([1 - positive, positive], axis=1),
        np.array(test["groups"], np.int64),
        np.array(test["contradicts"], bool),
    )


def _told(setting: Setting) -> str:
    if setting.data == "phantoms":
        what = f"{QUICK_PHANTOMS if setting.quick else PHANTOMS} phantoms (drawn), letters"
    elif setting.kinds == "none":
        what = "real X-rays as they are"
    else:
        what = f"real X-rays, planted {setting.kinds}, agreement {setting.agreement:.0%}"
    asked = f"{setting.painted:.1%} asked ({setting.ask})"
    return f"{what}, {asked}, {setting.masks} painted, {setting.trainable} trained"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing in the results, then print and write what all of them say."""
    options = _parser().parse_args(arguments)
    arms = list(dict.fromkeys([REFERENCE, options.against, *options.arms]))
    settings, seeds = _settings(options), options.seeds or (1 if options.quick else 3)
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        archive = archive_of(options.xrays)
        weights = fetch_weights(options.weights, work / "weights", print) if not options.quick else None
        before = machine()
        results = measure(settings, options.painted, arms, seeds, Given(work, archive, weights))
        written = {"quick": options.quick, "machine": before, "recipe": _recipe(settings), "summaries": []}
        for setting in settings:
            for painted in options.painted:
                one = replace(setting, painted=painted)
                summary = summarize(results, one, arms, seeds, options.against)
                print(
                    f"\n{_told(one)}; simulated clinician; test split, difference to {options.against} (95 % "
                    f"over seeds and patients; least to most over seeds)\n\n{table(summary)}"
                )
                written["summaries"].append(summary)
    if options.json:
        options.json.write_text(json.dumps(written, indent=1), encoding="utf-8")


def _recipe(settings: Iterable[Setting]) -> dict[str, Any]:
    return asdict(next(iter(settings)).recipe)


def _settings(options: argparse.Namespace) -> list[Setting]:
    """All that are asked for; phantoms have their own markers, and no marker agrees with anything."""
    data = "phantoms" if options.quick else options.data
    kinds, agreement = options.kinds, options.agreement
    if data == "phantoms":
        kinds, agreement = ["letter"], [0.88]
    trainable = options.trainable or ("all" if options.data == "phantoms" else "layer4")
    painted = options.painted[0]
    return [
        Setting(data, kind, share, painted, "surroundings" if kind == "none" else options.masks, trainable,
                options.quick, ask)
        for ask in options.ask
        for kind in kinds
        for share in (agreement[:1] if kind == "none" else agreement)
    ]  # fmt: skip


def _kinds(text: str) -> str:
    if text != "none" and not set(text.split("+")) <= set(MARKERS):
        raise argparse.ArgumentTypeError(f"{text}: of {', '.join(MARKERS)}, joined by +, or none")
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m benchmarks correction",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--work", type=Path, help="results are kept here (else nowhere)")
    parser.add_argument("--data", choices=["xrays", "phantoms"], default="xrays")
    parser.add_argument("--xrays", type=Path, help="zip of chest X-rays (IMIL_TEST_XRAYS)")
    parser.add_argument("--weights", default="npm", help="as of `imil weights --from` (npm)")
    parser.add_argument("--seeds", type=int, help="0 to N - 1 (3; quick: 1)")
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS), metavar="ARM")
    parser.add_argument("--against", choices=list(ARMS), default=REFERENCE, metavar="ARM")
    parser.add_argument("--kinds", nargs="+", type=_kinds, default=["square"], metavar="KIND")
    parser.add_argument("--agreement", nargs="+", type=float, default=[0.95], metavar="SHARE")
    parser.add_argument("--painted", nargs="+", type=float, default=[0.04], metavar="SHARE")
    parser.add_argument("--masks", choices=["marker", "surroundings"], default="marker")
    parser.add_argument("--ask", nargs="+", choices=list(ASKED), default=["mispredicted"], metavar="ASK")
    parser.add_argument("--trainable", choices=list(RECIPES), help="layer4; of phantoms all")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    parser.add_argument("--quick", action="store_true", help="only check that it runs, on phantoms")
    return parser


if __name__ == "__main__":
    main()
