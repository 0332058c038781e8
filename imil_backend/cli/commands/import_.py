"""`imil import`: a data set, from files or from a Label Studio project."""

from __future__ import annotations

from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from imil_backend.cli.helpers.console import (
    JsonOption,
    command,
    open_backend,
    print_json,
    progress_bar,
    progress_bars,
    say,
)
from imil_backend.cli.helpers.import_summary import show_import
from imil_backend.cli.helpers.questions import settle
from imil_backend.errors import DatasetError
from imil_backend.label_studio.labeling.classification import SeveralAnnotators

if TYPE_CHECKING:
    from imil_backend.loop.importing.importing import ImportReport


class MaskMeans(str, Enum):
    """What a mask of the data set marks."""

    RELEVANT = "relevant"
    IRRELEVANT = "irrelevant"


@command("import")
def import_(
    context: typer.Context,
    source: Annotated[Path | None, typer.Argument(help="A folder, a CSV, or a zip of either.")] = None,
    label_studio: Annotated[
        int | None,
        typer.Option(
            "--label-studio",
            metavar="ID",
            help="ID of a classification project of Label Studio, instead of a source.",
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="The dataset's name (default: the source's).")] = None,
    image: Annotated[
        str | None,
        typer.Option(
            help="CSV: column or template of the image's path (default: image). Label Studio: name "
            "of the Image tag, if there are several."
        ),
    ] = None,
    label: Annotated[str | None, typer.Option(help="CSV: column of the label (default: label).")] = None,
    missing_label: Annotated[
        list[str] | None,
        typer.Option(help="CSV: a label to treat as missing, like NaN and N/A; repeatable."),
    ] = None,
    split: Annotated[str | None, typer.Option(help="CSV column or task field of the split.")] = None,
    group: Annotated[
        list[str] | None,
        typer.Option(help="CSV column or task field of the group (patient); repeat it to combine several."),
    ] = None,
    mask: Annotated[
        str | None,
        typer.Option(help="CSV: column or template of the mask's path, for the simulated clinician only."),
    ] = None,
    mask_means: Annotated[
        MaskMeans | None, typer.Option(help="Which region the masks mark (default: relevant).")
    ] = None,
    class_choices: Annotated[
        str | None,
        typer.Option(help="Label Studio: name of the Choices tag with the class, if there are several."),
    ] = None,
    several: Annotated[
        SeveralAnnotators | None,
        typer.Option(help="Label Studio: which class counts if annotators disagree (default: majority)."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Import at most this many images, chosen at random.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Random seed of --limit and of the splits.")] = 0,
    keep_leaking: Annotated[
        bool,
        typer.Option(
            "--keep-leaking",
            help="Keep training on groups that are in the given test split too, but never on copies "
            "of its images.",
        ),
    ] = False,
    window: Annotated[
        str | None,
        typer.Option(
            metavar="CENTER,WIDTH",
            help="Window for images of more than 8 bits, in Hounsfield units for CT; or lung, "
            "mediastinum, soft-tissue, bone, brain; or own: the files' own. For display only; "
            "training uses the whole range, or a DICOM file's own window.",
        ),
    ] = None,
    allow_outside: Annotated[
        bool,
        typer.Option(
            "--allow-outside",
            help="Import files outside the folder too, where a CSV's paths or links lead; never for a zip.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Import a data set: class folders, a CSV, a zip of either, or a project of Label Studio.

    Class folders may be inside train, val and test folders, and contain `images` and `masks`. Without given
    splits, groups are split 70/15/15; a given test split is kept. Originals stay where they are and are
    never changed; only a zip is unpacked into the data directory. Files outside the source are imported only
    with `--allow-outside`. Importing again adds only what is new. DICOM files may be among the images. Files
    that are not samples are skipped and counted, what cannot be used is set aside with its reason, and an
    option that does not apply to the source is an error. A path may be a template of columns:
    `--image 'images/{file}' --mask 'masks/{file:stem}.png'`.

    `--label-studio ID` imports the class chosen in each task of a project: ground truth first, then by
    `--several`; skipped annotations and unchanged predictions do not count. Images are fetched once into the
    data directory; clinicians see them at their original URLs. If interrupted, the same command resumes.
    Nothing in that project is changed.
    """
    from imil_backend.loop.base.backend import find_dataset
    from imil_backend.loop.importing.importing import import_dataset
    from imil_backend.loop.sources.read_source import Columns
    from imil_backend.loop.versions.validation_power import as_sentences, as_values, validation_power

    if (source is None) == (label_studio is None):
        raise typer.BadParameter("Give either a source or --label-studio ID.")
    common: dict[str, Any] = {
        "name": name,
        "limit": limit,
        "seed": seed,
        "keep_leaking": keep_leaking,
        "window": window,
    }
    if source is None:
        of_files = {
            "label": label,
            "mask": mask,
            "mask_means": mask_means,
            "missing_label": missing_label,
            "allow_outside": allow_outside,
        }
        _refuse_meaningless(of_files, "a project of Label Studio")
    else:
        _refuse_meaningless({"class_choices": class_choices, "several": several}, "files")
    with open_backend(context) as backend:
        if source is None:
            number = label_studio or 0
            report = _from_label_studio(
                backend,
                number,
                {"group": tuple(group or ()), "split": split, "image": image, "class_choices": class_choices},
                several or SeveralAnnotators.MAJORITY,
                common,
            )
        else:
            columns = Columns(image, label, split, tuple(group or ()), mask, tuple(missing_label or ()))
            with progress_bar("Reading the images") as progress:
                report = import_dataset(
                    backend,
                    source,
                    columns=columns,
                    mask_means=mask_means and mask_means.value,
                    allow_outside=allow_outside,
                    progress=progress,
                    **common,
                )
        with backend.store.begin() as session:
            powers = validation_power(session, find_dataset(session, report.dataset))
    if as_json:
        print_json({**asdict(report), "validation": as_values(powers)})
    else:
        show_import(report, keep_leaking)
        say(escape(as_sentences(powers)))


def _refuse_meaningless(options: dict[str, Any], source: str) -> None:
    """Refuse the options that were given and do not apply to this source."""
    given = [f"--{name.replace('_', '-')}" for name, value in options.items() if value]
    if given:
        several = len(given) > 1
        raise DatasetError(
            f"{' and '.join(given)} {'do' if several else 'does'} not apply to {source}. "
            f"Omit {'them' if several else 'it'}."
        )


def _from_label_studio(
    backend: Any,
    number: int,
    fields: dict[str, Any],
    several: SeveralAnnotators,
    common: dict[str, Any],
) -> ImportReport:
    from imil_backend.loop.importing.classification_source import Fields, import_project

    def work(said: dict[str, Any]) -> ImportReport:
        return import_project(
            backend, number, fields=Fields(**said), rule=several, progress=progress, **common
        )

    with progress_bars() as progress:
        return settle(work, fields)
