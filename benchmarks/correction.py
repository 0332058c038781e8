"""What correction brings, and its rivals: `imil compare` on X-rays with planted markers, or on phantoms.

    python -m benchmarks correction --work DIR [--data xrays|phantoms] [--seeds N] [--arms ARM ...]
        [--kinds tag letter tube drain tag+letter none ...] [--agreement SHARE ...] [--painted SHARE ...]
        [--trainable layer4|all] [--against ARM] [--ask mispredicted|mixed|disagreement] [--parallel N]
        [--json FILE] [--quick]

Draws 1,000 chest X-rays by patient, with the 624 official test films; plants each kind of marker as
`imil plant` does, so that it tells the class in most films (95 %, as a data set from one place has it) and
nothing in test; and compares the arms as `imil compare` does: arms, protocol, and what each seed varies are
described in docs/comparison.md. A **simulated** clinician paints the marker, or in films as they are
(`none`) everything outside the lungs.

X-rays: 64 px, ImageNet weights; with layer4 only the last stage is trained, in the baseline too. Phantoms:
the 700 of the quick start that train, the letter painted, all layers; measured on 900 others, as
`imil phantoms` draws them too.

DIR keeps data sets and finished runs: given again, the command goes on where it was interrupted, and refuses
what would change a comparison that has begun.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.films import import_phantoms, import_xrays
from benchmarks.report import archive_of, machine
from imil_backend.config import load_settings
from imil_backend.errors import NotFoundError
from imil_backend.images.markers import MARKERS
from imil_backend.learning.networks.imagenet_weights import fetch_weights
from imil_backend.learning.networks.runtime import visible_gpus
from imil_backend.learning.scoring.ranking import ASKED
from imil_backend.loop.base.backend import Backend, find_dataset
from imil_backend.loop.comparing.arms import ARMS, UNCHANGED, arms_of
from imil_backend.loop.comparing.protocol import ComparedDataset, Protocol, fix
from imil_backend.loop.comparing.results.writing import need_packages
from imil_backend.loop.comparing.runs import Run, Runs
from imil_backend.loop.comparing.statistics.measures import Measure, answers_of, measures_of
from imil_backend.loop.comparing.statistics.paired import Estimate, Paired
from imil_backend.loop.comparing.trainings.planning import Wish, plan
from imil_backend.loop.comparing.trainings.running import Standing, places_for, run_comparison
from imil_backend.loop.versions.starting_weights import select_weights

RECIPES: dict[str, dict[str, Any]] = {
    "layer4": {
        "image_size": 64,
        "epochs": 8,
        "mining_epoch": 2,
        "learning_rate": 0.01,
        "trainable": "layer4",
    },
    "all": {"image_size": 64, "epochs": 6},
}
QUICK = {"image_size": 32, "epochs": 2, "mining_epoch": 1, "pretrained": False, "backbone": "resnet18"}
SHOWN = ("accuracy", "balanced_accuracy", "auc", "agree", "conflict", "worst_group", "robust_accuracy")


def compare(
    backend: Backend, dataset: str, recipe: dict[str, Any], protocol: dict[str, Any], parallel: int
) -> dict[str, Any]:
    """Run what is missing of the comparison on a dataset; a summary for each budget."""
    wish = Wish((dataset,), recipe=recipe, protocol=protocol, parallel=parallel)
    directory, fixed, datasets = plan(backend, wish, print)
    fix(directory, fixed)
    told: list[int] = []

    def tell(now: Standing) -> None:
        if not told or int(now.done) > told[-1]:
            told.append(int(now.done))
            print(f"{dataset}: {told[-1]} of {now.total} trainings", flush=True)

    places = places_for(parallel, backend.settings.training_processes, visible_gpus(backend.settings.device))
    runs = run_comparison(backend, directory, fixed, datasets, tell, places=places)
    return {
        "dataset": dataset,
        "protocol": asdict(fixed),
        "simulated": fixed.simulated,
        "budgets": [summarize(runs, fixed, datasets[0].classes, budget) for budget in fixed.budgets],
    }


def summarize(runs: Runs, protocol: Protocol, classes: Sequence[str], budget: float) -> dict[str, Any]:
    """A row for each arm: its means over the seeds, and its paired differences to the one compared with."""
    measures, numbers = measures_of(classes), dict[str, int]()
    by_seed = sorted(runs, key=lambda run: run.seed)
    own = {
        arm: [run for run in by_seed if (run.arm, run.setting.painted) == (arm, budget)]
        for arm in protocol.arms
    }
    answers = {arm: [answers_of(run, numbers) for run in found] for arm, found in own.items()}
    paired = Paired(answers, measures)
    rows = [_row(paired, measures, arm, own[arm], protocol.against) for arm in protocol.arms]
    return {"painted": budget, "rows": rows}


def _row(
    paired: Paired, measures: dict[str, Measure], arm: str, runs: Sequence[Run], against: str
) -> dict[str, Any]:
    row: dict[str, Any] = {"arm": arm, "seeds": len(runs)}
    for name in measures:
        value = paired.estimate(arm, name)
        row[name] = value and value.value
        if arm != against and value:
            row[f"{name}, difference"] = _written(paired.difference(arm, against, name))
    row["painted images"] = statistics.fmean(run.painted_images for run in runs)
    row["seconds"] = statistics.fmean(run.seconds for run in runs)
    return row


def _written(found: Estimate | None) -> dict[str, Any] | None:
    """With what the seeds come to one by one, for of few seeds an interval says little."""
    if found is None:
        return None
    return {**asdict(found), "least": min(found.by_seed), "most": max(found.by_seed)}


def table(summary: dict[str, Any]) -> str:
    """The rows of a summary in Markdown."""
    head = ["arm", "seeds", *(each for name in SHOWN[:3] for each in (name, "difference")), *SHOWN[3:]]
    lines = [[*head, "painted", "s"], ["---"] * (len(head) + 2)]
    for row in summary["rows"]:
        cells = [row["arm"], str(row["seeds"])]
        for name in SHOWN[:3]:
            cells += [_number(row[name]), _difference(row.get(f"{name}, difference"))]
        cells += [_number(row[name]) for name in SHOWN[3:]]
        lines.append([*cells, f"{row['painted images']:.0f}", f"{row['seconds']:.0f}"])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _difference(value: dict[str, Any] | None) -> str:
    if value is None:
        return ""
    interval = f"{value['lower']:+.3f} to {value['upper']:+.3f}"
    return f"{value['value']:+.3f} ({interval}; seeds {value['least']:+.3f} to {value['most']:+.3f})"


def told(about: ComparedDataset, painted: float, protocol: dict[str, Any]) -> str:
    """What was measured, in words."""
    what = (
        "films as they are"
        if about.marker is None
        else f"PLANTED {about.marker}, agreement {about.agreement}"
    )
    return f"{about.name}: {what}, {painted:.1%} asked ({protocol['ask']}), simulated clinician; test split"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing, then print and write what all of it says."""
    options = _parser().parse_args(arguments)
    need_packages()  # which are used when all has been trained
    data = "phantoms" if options.quick else options.data
    trainable = options.trainable or ("all" if data == "phantoms" else "layer4")
    recipe = RECIPES[trainable] | (QUICK if options.quick else {})
    protocol = {
        "seeds": options.seeds or (1 if options.quick else 3),
        "budgets": tuple(options.painted),
        "ask": options.ask,
        "against": options.against,
        **({"arms": tuple(arms_of((options.against, *options.arms)))} if options.arms else {}),
    }
    with tempfile.TemporaryDirectory() as temporary:
        work = (options.work or Path(temporary)).absolute()
        work.mkdir(parents=True, exist_ok=True)
        before = machine()
        backend = Backend(load_settings(data_dir=work / "data"))
        backend.store.migrate()
        if not options.quick:
            select_weights(backend, fetch_weights(options.weights, work / "weights", print))
        summaries = [
            compare(backend, name, recipe, protocol, options.parallel)
            for name in _datasets(backend, data, options, work / "films")
        ]
        backend.close()
    for each in summaries:
        about = ComparedDataset(**each["protocol"]["datasets"][0])
        for summary in each["budgets"]:
            print(f"\n{told(about, summary['painted'], each['protocol'])}\n\n{table(summary)}")
    if options.json:
        written = {"quick": options.quick, "machine": before, "recipe": recipe, "summaries": summaries}
        options.json.write_text(json.dumps(written, indent=1), encoding="utf-8")


def _datasets(backend: Backend, data: str, options: argparse.Namespace, directory: Path) -> list[str]:
    """The names of the datasets that are compared on; those that are missing are imported."""
    if data == "phantoms":
        if not _is_there(backend, "phantoms"):
            import_phantoms(backend, "phantoms", directory, quick=options.quick)
        return ["phantoms"]
    archive = archive_of(options.xrays)
    assert archive is not None, "name the X-rays with --xrays or IMIL_TEST_XRAYS"
    names = []
    for kind in options.kinds:
        for agreement in options.agreement[: 1 if kind == "none" else None]:
            name = "xrays" if kind == "none" else f"xrays-{kind}-{agreement:g}"
            if not _is_there(backend, name):
                markers = [] if kind == "none" else kind.split("+")
                import_xrays(backend, archive, name, markers, agreement, directory)
            names.append(name)
    return names


def _is_there(backend: Backend, name: str) -> bool:
    with backend.store.begin() as session:
        try:
            find_dataset(session, name)
        except NotFoundError:
            return False
    return True


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
    parser.add_argument("--work", type=Path, help="data sets and runs are kept here (else nowhere)")
    parser.add_argument("--data", choices=["xrays", "phantoms"], default="xrays")
    parser.add_argument("--xrays", type=Path, help="zip of chest X-rays (IMIL_TEST_XRAYS)")
    parser.add_argument("--weights", default="npm", help="as of `imil weights --from` (npm)")
    parser.add_argument("--seeds", type=int, help="3; quick: 1")
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), metavar="ARM", help="all that are possible")
    parser.add_argument("--against", choices=list(ARMS), default=UNCHANGED, metavar="ARM")
    parser.add_argument("--kinds", nargs="+", type=_kinds, default=["tag"], metavar="KIND")
    parser.add_argument("--agreement", nargs="+", type=float, default=[0.95], metavar="SHARE")
    parser.add_argument("--painted", nargs="+", type=float, default=[0.04], metavar="SHARE")
    parser.add_argument("--ask", choices=list(ASKED), default="mispredicted")
    parser.add_argument("--trainable", choices=list(RECIPES), help="layer4; of phantoms all")
    parser.add_argument("--parallel", type=int, default=1, help="trainings at the same time (1)")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    parser.add_argument("--quick", action="store_true", help="only check that it runs, on phantoms")
    return parser


if __name__ == "__main__":
    main()
