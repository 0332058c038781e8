"""`imil mispredictions`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from imil_backend.cli.helpers.console import (
    DatasetOption,
    JsonOption,
    command,
    console,
    metric,
    open_backend,
    print_json,
    table,
)

if TYPE_CHECKING:
    from imil_backend.loop.versions.mispredictions import MinedMisprediction


@command("mispredictions")
def mispredictions(
    context: typer.Context,
    dataset: DatasetOption = None,
    everything: Annotated[
        bool,
        typer.Option(
            "--all", help="List everything that the champion got wrong, not only what is asked next."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """List the training images that the champion got wrong, the most instructive first."""
    from imil_backend.loop.base.backend import find_dataset
    from imil_backend.loop.versions.mispredictions import all_mispredictions, next_mispredictions

    with open_backend(context) as backend, backend.store.begin() as session:
        found = find_dataset(session, dataset)
        listed = all_mispredictions(session, found) if everything else next_mispredictions(session, found)
        rows = [_described(item) for item in listed]
    if as_json:
        print_json(rows)
        return
    shown = table(
        "Mispredictions", "rank", "source", "label", "predicted", "probability", "margin", "remark",
        numbers=("rank", "probability", "margin"),
    )  # fmt: skip
    for row in rows:
        remark = (
            "the label may be wrong" if row["likely_label_error"] else "" if row["wrong"] else "uncertain"
        )
        shown.add_row(
            str(row["rank"]), escape(row["source"]), escape(row["label"]), escape(row["predicted"]),
            metric(row["probability"]), metric(row["margin"]), remark,
        )  # fmt: skip
    console.print(shown)


def _described(item: MinedMisprediction) -> dict[str, Any]:
    return {
        "rank": item.rank,
        "sample": item.sample.key,
        "source": item.sample.name,
        "label": item.sample.label,
        "predicted": item.predicted,
        "probability": item.probability,
        "margin": item.margin,
        "wrong": item.wrong,
        "likely_label_error": item.likely_label_error,
    }
