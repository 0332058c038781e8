"""The options of the quick start, and what it remembers in its directory."""

from __future__ import annotations

import argparse
import fcntl
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from children import QuickstartError
from label_studio import free_port

DESCRIPTION = """
Starts a local Label Studio and the backend, imports a data set (without --data it draws phantoms), trains the
baseline and pushes its mispredictions as the first round. With --simulate a simulated clinician answers it,
and the command exits when the round has closed. Run it again to resume. Ctrl-C stops everything that it
started.
"""
EPILOG = """
Class folders need no options: --data FOLDER. A CSV's columns: --data index.csv --image file --label diagnosis
--group patient. See docs/engineers.md.
"""

# One round on phantoms takes some minutes on two cores with these. A margin of 0.05 needs 59 groups in the
# validation split; 1,000 phantoms have about 75.
PHANTOMS = 1000
PHANTOM_IMAGE_SIZE = 64
PHANTOM_EPOCHS = 6
PHANTOM_MARGIN = 0.05

PASSED_ON = ("IMIL_DEVICE", "IMIL_TRAINING_PROCESSES")  # of the user's own settings


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="scripts/quickstart", description=DESCRIPTION, epilog=EPILOG)
    add = parser.add_argument
    add("--simulate", action="store_true", help="let a simulated clinician answer one round, then exit")
    add("--directory", type=Path, default=Path("quickstart_data"), help="directory for everything")
    add("--port", type=int, help="of the backend (9090); used at the first start only, like the next option")
    add("--label-studio-port", type=int, help="of Label Studio (8080); any free port if these are in use")

    data = parser.add_argument_group("data")
    add = data.add_argument
    add("--data", type=Path, metavar="PATH", help="a folder, a CSV, or a zip of either (default: phantoms)")
    add("--count", type=int, default=PHANTOMS, help="number of phantoms (%(default)s)")
    add("--limit", type=int, metavar="N", help="import at most N images, chosen at random")
    add("--name", help="of the data set (default: its file name)")
    for name in ("image", "label", "split"):
        add(f"--{name}", metavar="COLUMN", help=f"CSV: the {name}'s column, as for imil import")
    add(
        "--group",
        metavar="COLUMN",
        action="append",
        help="CSV: column of the patient; repeat it to combine several",
    )
    add("--mask", metavar="COLUMN", help="CSV: column of the masks, for the simulated clinician only")
    add("--mask-means", choices=["relevant", "irrelevant"], help="which region the masks mark (relevant)")
    add("--keep-leaking", action="store_true", help="train on groups that are in the given test split too")

    training = parser.add_argument_group("training and rounds")
    add = training.add_argument
    add("--image-size", type=int, help=f"width and height in pixels (224; phantoms: {PHANTOM_IMAGE_SIZE})")
    add("--epochs", type=int, help=f"of the baseline (10; phantoms: {PHANTOM_EPOCHS})")
    add("--seed", type=int, help="random seed (0)")
    add("--weights", metavar="SOURCE", help="torchvision, npm or a file (default: torchvision, else npm)")
    add("--from-scratch", action="store_true", help="without ImageNet weights")
    add("--budget", type=float, help="share of the training split to ask about in a round (0.04)")
    add(
        "--promotion-margin",
        type=float,
        help=f"largest acceptable loss of accuracy (0.02; phantoms: {PHANTOM_MARGIN})",
    )
    options = parser.parse_args()
    if options.data and options.simulate and not options.mask:
        parser.error("--simulate paints known masks: name their column with --mask.")
    options.directory = options.directory.absolute()
    if options.data:
        options.data = options.data.absolute()
    else:
        options.image_size = options.image_size or PHANTOM_IMAGE_SIZE
        options.epochs = options.epochs or PHANTOM_EPOCHS
        options.promotion_margin = options.promotion_margin or PHANTOM_MARGIN
    return options


def again(options: argparse.Namespace) -> str:
    """The command that goes on with this directory and data set, for people."""
    words = ["scripts/quickstart"]
    if options.directory != (Path.cwd() / "quickstart_data"):
        words += ["--directory", str(options.directory)]
    if options.data:
        words += ["--data", str(options.data)]
    if options.name:
        words += ["--name", options.name]
    return " ".join(words)


def given(options: argparse.Namespace, *names: str) -> list[str]:
    """Those of our options that were given, as options of `imil`."""
    words = []
    for name in names:
        value = getattr(options, name)
        for each in value if isinstance(value, list) else [value]:
            if each is not None:
                words += [f"--{name.replace('_', '-')}", str(each)]
    return words


def remember(options: argparse.Namespace) -> dict[str, str]:
    """The settings of this directory: made once, kept in its `.env`, which `imil` reads there too.

    The ports are kept as well: Label Studio knows the backend, and the backend Label Studio, by its address.

    Raises:
        QuickstartError: another program listens on one of the ports.
    """
    path = options.directory / ".env"
    lines = path.read_text().splitlines() if path.exists() else []
    kept = dict(line.split("=", 1) for line in lines)
    label_studio_port = int(kept.get("LABEL_STUDIO_PORT") or options.label_studio_port or a_port(8080))
    port = int(kept.get("IMIL_PORT") or options.port or a_port(9090))
    for each in (label_studio_port, port):
        if is_taken(each):
            raise QuickstartError(f"Port {each} is in use by another program. Stop that one first.")
    settings = {
        "IMIL_DATA_DIR": str(options.directory / "imil_data"),
        "IMIL_PORT": str(port),
        "LABEL_STUDIO_URL": f"http://127.0.0.1:{label_studio_port}",
        "LABEL_STUDIO_PORT": str(label_studio_port),
        "LABEL_STUDIO_API_KEY": kept.get("LABEL_STUDIO_API_KEY") or secrets.token_hex(20),
        "LABEL_STUDIO_PASSWORD": kept.get("LABEL_STUDIO_PASSWORD") or secrets.token_urlsafe(9),
    }
    new = path.with_name(".env.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.writelines(f"{name}={value}\n" for name, value in settings.items())
    new.replace(path)
    return settings


def a_port(preferred: int) -> int:
    """The usual port if nobody listens on it, else a free one."""
    return free_port() if is_taken(preferred) else preferred


def is_taken(port: int) -> bool:
    """Whether something listens on a port of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def environment(settings: dict[str, str]) -> dict[str, str]:
    """Of all children: the user's, without settings of another backend or Label Studio, and no proxy."""
    foreign = ("IMIL_", "LABEL_STUDIO_")
    own = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    own |= {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    local = ",".join(filter(None, [os.environ.get("NO_PROXY") or os.environ.get("no_proxy"), "127.0.0.1"]))
    return own | settings | {"NO_PROXY": local, "no_proxy": local}


@contextmanager
def alone_in(directory: Path) -> Iterator[None]:
    """Hold the directory's lock.

    Raises:
        QuickstartError: another quick start runs there.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)  # images, passwords, tokens
    with (directory / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise QuickstartError(f"Another quick start is running in {directory}.") from error
        yield
