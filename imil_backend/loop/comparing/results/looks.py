"""How often the test split was looked at: every look at other runs is noted for good."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime, timezone
from pathlib import Path

from imil_backend.files import write_atomically
from imil_backend.loop.comparing.runs import RUNS_FILE

LOOKS_FILE = "looks.json"


def note_look(directory: Path) -> int:
    """Note that the test split is looked at now; looking at the same runs again is the same look.

    Returns:
        How many looks there were.
    """
    path = directory / LOOKS_FILE
    looks = json.loads(path.read_text("utf-8")) if path.exists() else []
    seen = hashlib.sha256((directory / RUNS_FILE).read_bytes()).hexdigest()
    if seen not in {look["runs"] for look in looks}:
        looks.append({"at": datetime.now(timezone.utc).isoformat(timespec="seconds"), "runs": seen})
        write_atomically(path, json.dumps(looks, indent=1).encode())
    return len(looks)
