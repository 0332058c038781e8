"""How long the dashboard's pages take, on generated rows: 100,000 samples, 20 rounds, two readers.

    python -m benchmarks dashboard [--samples N] [--rounds N] [--requests N] [--json FILE]

Each page is asked for in turns, within one process and without the network: the first request of each is
told by itself, for it fills what is kept in memory. Then the worker's part follows, a round's figures and
plots, with the reasons. The time on the CPU stands beside that on the clock, which measures what else the
machine does. Images are no part of it. Predictions and answers are drawn at random.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import insert, select

from benchmarks.answering import settings_of
from imil_backend.learning.contract.evidence import EVIDENCE_FILE, Evidence, write_evidence
from imil_backend.learning.contract.training_job import (
    MINING_FILE,
    PREDICTIONS_FILE,
    RESULT_FILE,
    Recipe,
    write_json,
)
from imil_backend.loop.answers.sample_states import save_mask
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.evaluation.changes import keep_changes
from imil_backend.loop.evaluation.kept import evaluate_version, folder_of
from imil_backend.loop.evaluation.reasons import keep_reasons
from imil_backend.loop.queues.engine import prepare
from imil_backend.loop.versions.champions import LOOP, promote
from imil_backend.server.app import create_app
from imil_backend.store.tables import Annotation, Dataset, Project, Round, Sample, Task, Version, now

CLASSES = ["normal", "pneumonia"]
SHARES = (("train", 0.7), ("validation", 0.15), ("test", 0.15))
BUDGET = 0.04
READERS = 2
SIZE = (2500, 2000)  # height, width
PAGES = {
    "start": "/dashboard/",
    "samples": "/dashboard/datasets/1/samples",
    "samples, wrong, sorted": "/dashboard/datasets/1/samples?model=wrong&order=margin&page=20",
    "samples, by answer": "/dashboard/datasets/1/samples?answer=unreadable&label=normal",
    "samples, disagreement": "/dashboard/datasets/1/samples?disagree=1&order=certainty",
    "versions": "/dashboard/datasets/1/versions",
    "version": "/dashboard/datasets/1/versions/2",
    "annotators": "/dashboard/datasets/1/annotators",
    "queue": "/dashboard/datasets/1/queue",
    "rounds": "/dashboard/datasets/1/rounds",
    "round": "/dashboard/datasets/1/rounds/{latest}",
    "sample": "/dashboard/datasets/1/samples/{asked}",
    "reasons": "/dashboard/datasets/1/reasons",
    "machine": "/dashboard/machine",
    "metrics": "/metrics",
}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--requests", type=int, default=40, help="of each page")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        rows, drawing = measure(Path(scratch), options.samples, options.rounds, options.requests)
    print(f"{'page':24} {'first':>8} {'median':>8} {'95th':>8} {'CPU 95th':>9}  milliseconds")
    for row in rows:
        print(
            f"{row['page']:24} {row['first']:8.0f} {row['median']:8.0f} {row['p95']:8.0f} "
            f"{row['cpu p95']:9.0f}"
        )
    print(f"figures and plots of a round: {drawing['seconds']:.1f} s, {drawing['cpu']:.1f} s of the CPU")
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    if options.json:
        options.json.write_text(json.dumps({"pages": rows, "drawing": drawing}, indent=1))


def measure(
    directory: Path, samples: int, rounds: int, requests: int
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Milliseconds of each page; seconds that the worker needs for a round's figures and plots."""
    settings = settings_of(directory)
    backend = Backend(settings)
    prepare(backend)
    fill(backend, samples, rounds)
    visitor = create_app(settings).test_client()
    took: dict[str, list[float]] = {name: [] for name in PAGES}
    worked: dict[str, list[float]] = {name: [] for name in PAGES}
    with backend.store.begin() as session:
        painted = select(Sample.key).join(Annotation).where(Annotation.mask_sha256.is_not(None)).limit(1)
        asked = session.scalars(painted).one()
    paths = {name: path.format(asked=asked, latest=rounds - 1) for name, path in PAGES.items()}
    for _ in range(requests + 1):
        for name, path in paths.items():
            began, cpu_began = time.perf_counter(), time.thread_time()
            answer = visitor.get(path)
            took[name].append(1000 * (time.perf_counter() - began))
            worked[name].append(1000 * (time.thread_time() - cpu_began))
            if answer.status_code != 200:
                raise RuntimeError(f"{path} answered {answer.status_code}: {answer.text[:500]}")
    drawing = _draw(backend, rounds)
    backend.close()
    return [
        {
            "page": name,
            "first": values[0],
            "median": float(np.median(values[1:])),
            "p95": float(np.quantile(values[1:], 0.95)),
            "cpu p95": float(np.quantile(worked[name][1:], 0.95)),
        }
        for name, values in took.items()
    ], drawing


def _draw(backend: Backend, rounds: int) -> dict[str, float]:
    """Of the latest round."""
    began, cpu_began = time.perf_counter(), time.process_time()
    with backend.store.begin() as session:
        round_ = session.get_one(Round, rounds)
        assert round_.version is not None
        evaluate_version(session, round_.version)
        keep_changes(session, round_, folder_of(round_.version))
        keep_reasons(backend, session, round_, folder_of(round_.version))
    return {"seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu_began}


def fill(backend: Backend, samples: int, rounds: int) -> None:
    """Lay down a dataset with its rounds, as they would be after as many pushes."""
    random = np.random.default_rng(0)
    splits = np.repeat([name for name, _ in SHARES], [round(share * samples) for _, share in SHARES])
    labels = random.integers(0, 2, len(splits))
    keys = [f"{number:032x}" for number in range(len(splits))]
    groups = [f"patient {number}" for number in random.integers(0, samples // 3, len(splits))]
    with backend.store.begin() as session:
        session.add(Dataset(name="films", classes=CLASSES, recipe=asdict(Recipe()), policy={}))
        session.flush()
        session.add(Project(dataset_id=1, instance=backend.settings.label_studio_url, label_studio_id=1))
        session.execute(
            insert(Sample),
            [
                {
                    "dataset_id": 1, "key": key, "name": f"images/film-{number:06d}.png",
                    "path": f"/data/films/images/film-{number:06d}.png", "sha256": key * 2, "width": SIZE[1],
                    "height": SIZE[0], "channels": 1, "shown_as_is": True, "label": CLASSES[labels[number]],
                    "split": str(splits[number]), "group": groups[number],
                }
                for number, key in enumerate(keys)
            ],
        )  # fmt: skip
    training = np.flatnonzero(splits == "train")
    asked = random.permutation(training)
    budget = round(BUDGET * len(training))
    for number in range(rounds):
        directory = backend.path("versions", f"films-round{number}", "x").parent
        write_results(directory, random, splits, labels, keys, groups)
        if number == 0:
            write_maps(directory, random, splits, labels, keys)
        else:
            (directory / EVIDENCE_FILE).hardlink_to(directory.with_name("films-round0") / EVIDENCE_FILE)
        _add_round(backend, directory, number)
        if number:
            mask = save_mask(backend, np.indices(SIZE)[1] < 100 + number)
            _add_answers(backend, random, number, asked[(number - 1) * budget : number * budget], mask)
    with backend.store.begin() as session:
        keep_reasons(backend, session, session.get_one(Round, rounds), directory / "report")


def write_results(
    directory: Path, random: np.random.Generator, splits: Any, labels: Any, keys: list[str], groups: list[str]
) -> None:
    """Predictions, mispredictions and epochs of a version, drawn at random."""
    scores = np.clip(random.normal(0.5 + 0.3 * (2 * labels - 1), 0.25), 0.001, 0.999)
    probabilities = np.stack([1 - scores, scores], axis=1)
    split_of = {name: np.flatnonzero(splits == name) for name in ("validation", "test")}
    write_json(
        directory / PREDICTIONS_FILE,
        {
            name: {
                "keys": [keys[place] for place in own],
                "groups": [groups[place] for place in own],
                "labels": labels[own].tolist(),
                "probabilities": probabilities[own].tolist(),
            }
            for name, own in split_of.items()
        },
    )
    predicted = probabilities.argmax(axis=1)
    write_json(
        directory / MINING_FILE,
        [
            {
                "key": keys[place], "label": int(labels[place]), "predicted": int(predicted[place]),
                "wrong": bool(predicted[place] != labels[place]), "mean_margin": None,
                "probability": float(probabilities[place].max()), "margin": float(scores[place] - 0.5),
                "margin_deviation": 0.1, "variety": None, "likely_label_error": bool(random.random() < 0.01),
            }
            for place in np.flatnonzero(splits == "train")
        ],
    )  # fmt: skip
    epoch = {"train_loss": 0.5, "validation": {"loss": 0.5, "accuracy": 0.8}}
    write_json(
        directory / RESULT_FILE,
        {"epochs": [{"epoch": number, **epoch} for number in range(1, 11)], "best_epoch": 10},
    )


def write_maps(
    directory: Path, random: np.random.Generator, splits: Any, labels: Any, keys: list[str]
) -> None:
    """Class evidence of a version, drawn at random."""
    kept = {}
    for name, _ in SHARES:
        own = np.flatnonzero(splits == name)
        probabilities = random.dirichlet((1, 1), len(own)).astype(np.float32)
        maps = random.normal(0, 0.1, (2, len(own), 7, 7)).astype(np.float16)
        kept[name] = Evidence(tuple(keys[place] for place in own), labels[own], probabilities, *maps)
    write_evidence(directory / EVIDENCE_FILE, kept)


def _add_round(backend: Backend, directory: Path, number: int) -> None:
    measured = {"accuracy": 0.8, "balanced_accuracy": 0.8, "auc": 0.9, "loss": 0.5}
    with backend.store.begin() as session:
        version = Version(
            dataset_id=1, name=directory.name, parent_id=number or None, baseline_id=1 if number else None,
            directory=str(directory), recipe=asdict(Recipe()), fingerprint="f", blacked_out=0, seconds=1.0,
            metrics={"validation": measured, "test": measured}, runtime_info={}, code_version="0",
        )  # fmt: skip
        session.add(version)
        session.flush()
        promote(session, version, LOOP)
        round_ = Round(
            dataset_id=1, number=number, state="closed", mined_version_id=number or None,
            version_id=version.id, version_name=version.name, readers=READERS,
            verdict={"verdict": "promote", "reason": ""},
        )  # fmt: skip
        session.add(round_)
        session.flush()
        if number < 2:
            evaluate_version(session, version)
            keep_changes(session, round_, folder_of(version))
        else:  # drawing is no part of what is measured
            shutil.copytree(directory.with_name("films-round1") / "report", directory / "report")


def _add_answers(
    backend: Backend, random: np.random.Generator, number: int, places: Any, mask_sha256: str
) -> None:
    kinds = ["blackout", "blackout", "blackout", "nothing", "label_wrong", "unreadable"]
    with backend.store.begin() as session:
        tasks = [
            {
                "project_id": 1, "round_id": number + 1, "sample_id": int(place) + 1, "rank": rank,
                "label_studio_id": number * 100_000 + rank,
            }
            for rank, place in enumerate(places, start=1)
        ]  # fmt: skip
        first = (number - 1) * len(tasks) + 1
        session.execute(insert(Task), tasks)
        at = now() - timedelta(days=100 - number)
        answers = random.choice(kinds, (len(tasks), READERS))
        session.execute(
            insert(Annotation),
            [
                {
                    "project_id": 1, "label_studio_id": READERS * (first + place) + reader,
                    "label_studio_created_at": at, "label_studio_updated_at": at, "task_id": first + place,
                    "sample_id": task["sample_id"], "annotator": reader + 1, "simulated": False,
                    "answer": str(answer), "lead_time": float(random.gamma(4, 5)),
                    "mask_sha256": mask_sha256 if answer == "blackout" else None,
                }
                for place, task in enumerate(tasks)
                for reader, answer in enumerate(answers[place])
            ],
        )  # fmt: skip


if __name__ == "__main__":
    main()
