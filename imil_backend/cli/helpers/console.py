"""What all commands share: the application, the backend they work on, progress, tables, errors."""

from __future__ import annotations

import functools
import inspect
import io
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

import imil_backend
from imil_backend.config import Settings, load_settings
from imil_backend.errors import ImilError
from imil_backend.files import OTHERS
from imil_backend.json_logs import JsonLines, log_as_json
from imil_backend.logs import OneLine

P = ParamSpec("P")
R = TypeVar("R")

logger = logging.getLogger(__name__)
console = Console()
errors = Console(stderr=True)

app = typer.Typer(
    name="imil",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_show_locals=False,
    help="""Interactive Medical Image Learning with Label Studio.

    A round: **imil import** a data set, **imil train** the baseline, **imil push** its mispredictions to
    Label Studio, let clinicians paint what is irrelevant. The round then closes automatically (or by
    **imil train**): the network is fine-tuned with what was painted, and the candidate is compared with the
    champion.

    **imil serve** and **imil worker** run the backend. Settings come from the environment and `.env`
    (`IMIL_DATA_DIR`, `LABEL_STUDIO_URL`, `LABEL_STUDIO_API_KEY`, ...; docs/settings.md lists them).
    """,
)

DatasetOption = Annotated[
    str | None, typer.Option("--dataset", "-d", help="Name of the dataset; required if there are several.")
]
_DataDirOption = Annotated[Path | None, typer.Option("--data-dir", help="Data directory (IMIL_DATA_DIR).")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]


class _AboveProgress(logging.Handler):
    """Writes a record above the bars that are shown, however long it is in one line."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write it."""
        errors.print(self.format(record), markup=False, highlight=False, emoji=False, soft_wrap=True)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(imil_backend.__version__)
        raise typer.Exit


@app.callback()
def _common(
    context: typer.Context,
    data_dir: _DataDirOption = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Verbose output.")] = False,
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    os.umask(OTHERS)  # what this process and its children write is about patients
    if isinstance(sys.stdout, io.TextIOWrapper):  # a name that it cannot show is escaped, as on stderr
        sys.stdout.reconfigure(errors="backslashreplace")
    handler = _AboveProgress()
    handler.setFormatter(OneLine())
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, handlers=[handler])
    logging.getLogger("alembic").setLevel(logging.WARNING)
    if not verbose:  # that it tries again; what comes of it is said by the error
        logging.getLogger("urllib3").setLevel(logging.ERROR)
    context.obj = {"data_dir": data_dir} if data_dir else {}


def settings_of(context: typer.Context) -> Settings:
    """The settings, with what was given on the command line."""
    return load_settings(**(context.obj or {}))


@contextmanager
def open_backend(context: typer.Context) -> Iterator[Any]:
    """The backend, with its database migrated."""
    from imil_backend.loop.base.backend import Backend
    from imil_backend.loop.queues.engine import prepare

    settings = settings_of(context)
    if settings.log_format == "json":
        log_as_json()
    backend = Backend(settings)
    try:
        prepare(backend)
        yield backend
    finally:
        backend.close()


def says_what_went_wrong(command: Callable[P, R]) -> Callable[P, R]:
    """Exit with status 1 and the message of our own errors, without a traceback."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except ImilError as error:
            if _logs_json():
                logger.error("%s", error)
            else:
                errors.print(f"[bold red]Error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
            raise typer.Exit(1) from error

    return run


def _logs_json() -> bool:
    return any(isinstance(handler.formatter, JsonLines) for handler in logging.getLogger().handlers)


def takes_data_dir(command: Callable[..., R]) -> Callable[..., R]:
    """Let a command take --data-dir too, so that it may stand on either side of the command."""
    signature = inspect.signature(command, eval_str=True)
    if "context" not in signature.parameters:
        return command

    @functools.wraps(command)
    def run(*args: Any, data_dir: Path | None = None, **kwargs: Any) -> R:
        if data_dir is not None:
            context = kwargs["context"]
            context.obj = {**(context.obj or {}), "data_dir": data_dir}
        return command(*args, **kwargs)

    option = inspect.Parameter(
        "data_dir", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_DataDirOption
    )
    run.__signature__ = signature.replace(parameters=[*signature.parameters.values(), option])  # type: ignore[attr-defined]
    return run


def command(name: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Add a command to `imil`."""

    def add(function: Callable[P, R]) -> Callable[P, R]:
        run = says_what_went_wrong(function)
        app.command(name)(takes_data_dir(run))
        return run

    return add


@contextmanager
def progress_bars() -> Iterator[Callable[[str, int, int], None]]:
    """Bars that appear with their first progress; gives the function (what, done, total) that moves them."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    bars = Progress(*columns, console=errors)
    shown: dict[str, TaskID] = {}

    def move(what: str, done: int, total: int) -> None:
        if not shown:
            bars.start()
        if what not in shown:
            shown[what] = bars.add_task(what)
        bars.update(shown[what], completed=done, total=total)

    try:
        yield move
    finally:
        if shown:
            bars.stop()


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar that appears with the first progress; gives the function (done, total) that moves it."""
    with progress_bars() as move:
        yield functools.partial(move, what)


def say(text: str) -> None:
    """Print a line, with markup but never wrapped: paths and commands are copied from it."""
    console.print(text, highlight=False, soft_wrap=True)


def announce(text: str) -> None:
    """Tell how a process that runs on stands: a record where logs are JSON, else a line."""
    if _logs_json():
        logger.info("%s", text)
    else:
        say(text)


def print_json(value: Any) -> None:
    """JSON on standard output, for programs."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def table(title: str, *columns: str, numbers: tuple[str, ...] = (), whole: tuple[str, ...] = ()) -> Table:
    """An empty table; the columns in `numbers` are aligned to the right, those in `whole` never folded."""
    made = Table(title=title, title_justify="left")
    for column in columns:
        justify: Literal["left", "right"] = "right" if column in numbers else "left"
        made.add_column(column, justify=justify, overflow="fold", no_wrap=column in whole)
    return made


def metric(value: float | None) -> str:
    """A metric with three places, or a dash."""
    return "-" if value is None else f"{value:.3f}"
