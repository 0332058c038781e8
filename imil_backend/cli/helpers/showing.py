"""Status and verdicts as tables."""

from __future__ import annotations

from collections import Counter
from typing import Any

from rich.markup import escape

from imil_backend.cli.helpers.console import console, metric, say, table
from imil_backend.cli.helpers.samples import samples_table
from imil_backend.learning.scoring.metrics import METRICS
from imil_backend.loop.splitting.exclusion import EXPLAINED

APART = 3  # samples on which readers agree least; the rest is in the JSON
SHOWN = 20  # items set aside; the rest is in the JSON


def show_status(found: dict[str, Any]) -> None:
    """Print what `loop.views.status.status` collected."""
    console.print(f"Worker: {'running' if found['worker_running'] else 'not running (`imil worker`)'}")
    for problem in found["unfinished_erasures"]:
        say(f"[yellow]An erasure is not finished[/]; `imil erase` goes on with it. {escape(problem)}")
    if not found["datasets"]:
        console.print("There is no dataset yet. Import one: `imil import SOURCE`.")
    for dataset in found["datasets"]:
        _show_dataset(dataset)


def _show_dataset(dataset: dict[str, Any]) -> None:
    console.print()
    _show_samples(dataset)
    say(f"Champion: {dataset['champion'] or 'none yet (`imil train`)'}")
    _show_project(dataset)
    closed = dataset["last_closed"]
    if closed:
        _show_round(closed)
    if dataset["worth"]:
        say(f"  {escape(' '.join(dataset['worth']))}")
    if dataset["round"] and dataset["round"] != closed:
        _show_round(dataset["round"])
    _show_answers(dataset)


def _show_samples(dataset: dict[str, Any]) -> None:
    columns = ("name", "classes", "samples", "groups", "left_out")
    console.print(samples_table(*(dataset[each] for each in columns)))
    for reason, count in Counter(each["reason"] for each in dataset["excluded"]).most_common():
        console.print(f"{count:,} samples are excluded: {EXPLAINED[reason]}.")
    if short := [each["told"] for each in dataset["validation"] if not each["enough"]]:
        say(f"Validation split: {escape(' '.join(short))}")


def _show_project(dataset: dict[str, Any]) -> None:
    console.print(f"Label Studio project: {dataset['project'] or 'none yet (`imil push`)'}")
    if gone := dataset["project_gone_at"]:
        say(
            f"  [yellow]Deleted in Label Studio since {gone[:19]}: its answers no longer count. "
            "Masks and audit trail stay.[/]"
        )
    if repaired := dataset["webhook_repaired_at"]:
        console.print(f"  Its webhook was repaired, last at {repaired[:19]}.")


def _show_answers(dataset: dict[str, Any]) -> None:
    if dataset["answers"]:
        answers = ", ".join(f"{count} {name}" for name, count in sorted(dataset["answers"].items()))
        console.print(f"Annotations: {answers}")
    if agreement := dataset["agreement"]:
        samples, dice = agreement["samples"], agreement["dice"]
        console.print(f"Agreement between annotators: Dice {dice:.2f} over {samples} samples")
    if readers := dataset["readers"]:
        _show_readers(readers)
    for sentence in (dataset["proposals"] or {"told": ()})["told"]:
        say(sentence)
    if dataset["nothing_proposed"]:
        say(escape(dataset["nothing_proposed"]))
    _show_reviews(dataset["reviews"])
    for each in dataset["gold"]:
        dice = "" if each["dice"] is None else f"; Dice {each['dice']:.2f} over {each['compared']}"
        say(f"Gold tasks: {_who(each)} gave the known answer to {each['same']} of {each['answers']}{dice}")
    for item in dataset["left_training"][:SHOWN]:
        told = f"{item['source']}: {item['answer']}. {item['reason']}".removesuffix(". ")
        say(f"[yellow]Left training[/] {escape(told)}")
    for item in dataset["set_aside"][:SHOWN]:
        say(f"[yellow]Set aside[/] {_located(item)}")
    for item in dataset["passed_over"][:SHOWN]:
        say(f"[yellow]Partly used[/] {_located(item)}")
    more = sum(max(len(dataset[name]) - SHOWN, 0) for name in ("left_training", "set_aside", "passed_over"))
    if more:
        console.print(f"... and {more} more; `imil status --json` lists all.")


def _show_readers(readers: dict[str, Any]) -> None:
    """How far people agree who answered the same samples, and where least."""
    console.print(
        f"Several readers: {readers['samples']} samples; the same answer in {readers['same_answer']:.0%} "
        f"of cases (kappa {metric(readers['kappa'])})"
    )
    for item in readers["apart"][:APART]:
        answers = ", ".join(f"{each['answer']} ({_who(each)})" for each in item["answers"])
        dice = "" if item["dice"] is None else f"; Dice {item['dice']:.2f}"
        say(f"  [yellow]They differ[/] on {escape(item['source'])}, task {item['task']}: {answers}{dice}")
    if (more := len(readers["apart"]) - APART) > 0:
        console.print(f"  ... and on {more} more; `imil status --json` lists all.")


def _show_reviews(reviews: dict[str, int]) -> None:
    """How far answers in dispute are reviewed."""
    if reviews["open"]:
        say(f"Answers in dispute: {reviews['open']} samples. `imil push --review` puts them to a reviewer.")
    if reviews["waiting"] or reviews["by_themselves"] or reviews["decided"]:
        say(f"Reviews: {reviews['decided']} decided, {reviews['waiting']} waiting")
    if count := reviews["by_themselves"]:
        say(
            f"  [yellow]{count} were answered by somebody whose own answer is in dispute[/] and decide "
            "nothing. Delete that annotation, and have somebody else answer."
        )


def _who(answer: dict[str, Any]) -> str:
    return "somebody" if answer["annotator"] is None else f"annotator {answer['annotator']}"


def _located(item: dict[str, Any]) -> str:
    """What it is, why, and for an annotation of whose image it is, who made it and where it can be opened."""
    if "link" not in item:
        return f"{escape(item['reference'])}: {escape(item['reason'])}"
    who = item["annotator_name"] or _who(item)
    of = f"{escape(item['reference'])} ({escape(item['source'])}) by {escape(who)}"
    return f"{of}: {escape(item['reason'])} {item['link']}"


def _show_round(round_: dict[str, Any]) -> None:
    kind = "Baseline" if round_["is_baseline"] else f"Round {round_['number']}"
    answered = f", {round_['answered']} of {round_['tasks']} tasks answered" if round_["tasks"] else ""
    if answered and round_["readers"] > 1:
        fewer = round_["begun"] - round_["answered"]
        answered += f" by {round_['readers']} readers, {fewer} by fewer"
    console.print(f"{kind}: {round_['state']}{answered}")
    if progress := round_["training"]:
        images = f", {progress['done']} of {progress['total']} images" if progress["total"] else ""
        rate = f", {progress['images_per_second']:.0f} images/s" if progress["images_per_second"] else ""
        console.print(f"  {phase_in_words(progress)}{images}{rate}")
        if progress["started_over"]:
            say(f"  [yellow]It has started over.[/] {escape(progress['started_over'])}")
    if round_["error"]:
        say(f"  [red]{escape(round_['error'])}[/]")
    if round_["verdict"]:
        verdict = round_["verdict"]
        console.print(f"  Verdict: {verdict['verdict']}. {escape(verdict['reason'])}", highlight=False)
        if round_["rejected_by_hand"]:
            console.print("  It was decided to keep the champion.")
        for line in shortcut_test_in_words(verdict):
            console.print(f"  {escape(line)}", highlight=False)


def shortcut_test_in_words(verdict: dict[str, Any]) -> list[str]:
    """Robust accuracy and drop of champion and candidate, a line each; nothing where no mask was known."""
    from imil_backend.loop.versions.shortcut_results import with_bounds

    test = verdict.get("shortcut")
    if not test:
        return []
    if test["untested"]:
        return [test["untested"]]
    lines = [
        f"{name.capitalize()}: robust accuracy {with_bounds(test[name]['robust_accuracy'])}, drop "
        f"{with_bounds(test[name]['drop'])}"
        for name in ("champion", "candidate")
        if test[name]
    ]
    untested = test["champion_untested"]
    return [*lines, f"The champion was not tested for shortcuts: {untested}"] if untested else lines


def phase_in_words(progress: dict[str, Any]) -> str:
    """Where a training is, such as "Training, epoch 2 of 5"; before and after its epochs the phase alone."""
    phase = str(progress["phase"]).capitalize()
    if progress["phase"] == "done" or not progress["epoch"]:
        return phase
    return f"{phase}, epoch {progress['epoch']} of {progress['epochs']}"


def show_versions(versions: list[dict[str, Any]], title: str) -> None:
    """Print versions with their metrics on the validation split; the test split is for the report."""
    listed = {name: metric.title for name, metric in METRICS.items() if metric.listed}
    numbers = (*listed.values(), "masks")
    shown = table(title, "version", *numbers, "", numbers=numbers, whole=("version",))
    for version in versions:
        metrics = version["metrics"]["validation"]
        remark = "champion" if version["champion"] else "was champion" if version["promoted_once"] else ""
        if version["weights_removed_at"]:
            remark = "weights removed"
        shown.add_row(
            version["name"],
            *(metric(metrics.get(name)) for name in listed),
            str(version["blacked_out"]),
            remark,
        )
    console.print(shown)
