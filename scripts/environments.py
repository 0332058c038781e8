#!/usr/bin/env python3
"""Make the virtual environments, or bring them up to date: .venv and .venv-label-studio.

Label Studio has other dependencies than the project, so it has an environment of its own, which the extra
`unit` goes without. They are made at the same time. An environment that is up to date is left as it is; an
installation that was interrupted goes on. They get the Python that runs this program, which needs
nothing else:

    scripts/environments.py --extra dev
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OLDEST_PYTHON = (3, 10)
LABEL_STUDIO = "label-studio>=1.23,<1.24"
OLDEST_LABEL_STUDIO = "label-studio>=1.18,<1.19"  # that is supported; for the test of its own
EXTRAS = ("dicom", "unit", "dev")  # each holds the ones before it
ALONE = "unit"  # which needs no Label Studio
STAMP = "installed.txt"  # what has been installed into an environment, a fingerprint a line


def fingerprint(*parts: bytes) -> str:
    """Of what an environment is to hold."""
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def ensure(directory: Path, requirements: list[str], wanted: str, included: list[str]) -> None:
    """Install into an environment, made if need be, unless its stamp has the wanted fingerprint.

    Args:
        directory: of the environment.
        requirements: for pip.
        wanted: fingerprint of what is to be there.
        included: fingerprints of all that is there afterwards.

    Raises:
        subprocess.CalledProcessError: the environment could not be made, or pip failed; it has said why.
    """
    stamp = directory / STAMP
    python = directory / "bin" / "python"
    if _works(python) and stamp.exists() and wanted in stamp.read_text(encoding="ascii").split():
        return
    print(f"Installing {' '.join(requirements)} into {directory.name}; this takes some minutes.", flush=True)
    if not _works(python):
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(directory)], check=True)
    stamp.unlink(missing_ok=True)
    pip = [str(python), "-m", "pip", "install", "--progress-bar", "off"]
    subprocess.run([*pip, *requirements], cwd=ROOT, check=True)
    stamp.write_text("\n".join(included) + "\n", encoding="ascii")


def _works(python: Path) -> bool:
    """Whether an environment has its Python (it may have been removed since) and pip."""
    command = [str(python), "-c", "import pip"]
    return python.exists() and subprocess.run(command, check=False, capture_output=True).returncode == 0


def main() -> int:
    """Make the environments."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--extra", choices=EXTRAS, default=EXTRAS[0], help="what the project needs besides")
    parser.add_argument(
        "--oldest-label-studio", action="store_true", help="make .venv-label-studio-oldest too, for its test"
    )
    arguments = parser.parse_args()
    extra = arguments.extra
    wanted = {} if extra == ALONE else {".venv-label-studio": LABEL_STUDIO}
    if arguments.oldest_label_studio:
        wanted[".venv-label-studio-oldest"] = OLDEST_LABEL_STUDIO
    if sys.version_info < OLDEST_PYTHON:
        oldest = ".".join(map(str, OLDEST_PYTHON))
        print(f"This is Python {sys.version.split()[0]}; {oldest} or later is needed.", file=sys.stderr)
        print("Choose another one: PYTHON=python3.12 scripts/quickstart", file=sys.stderr)
        return 1
    project = ROOT / "pyproject.toml"
    fingerprints = {name: fingerprint(project.read_bytes(), name.encode()) for name in EXTRAS}
    included = [fingerprints[name] for name in EXTRAS[: EXTRAS.index(extra) + 1]]
    with project.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two at once would spoil each other's installation
        work = [(ROOT / ".venv", ["--editable", f".[{extra}]"], fingerprints[extra], included)]
        for name, requirement in wanted.items():
            there = fingerprint(requirement.encode())
            work.append((ROOT / name, [requirement], there, [there]))
        try:
            with ThreadPoolExecutor(len(work)) as pool:
                list(pool.map(lambda each: ensure(*each), work))
        except subprocess.CalledProcessError as error:
            print(f"This failed: {' '.join(error.cmd)}. Its message is above.", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
