"""A training never outlives its parent, and never runs twice in one directory. Without torch.

    python -m imil_backend.learning.contract.supervision PARENT COMMAND ARGUMENTS...

becomes COMMAND (same process id), gives way to whatever answers a person, and dies when PARENT dies. Done by
a program of its own and not by a function between fork and exec, which is unsafe in a process with threads.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from imil_backend.errors import TrainingFailedError

SUPERVISOR_VARIABLE = "IMIL_TRAINING_SUPERVISOR"  # process ids, outermost first, that a training dies with
# Of a training, so that webhooks and predictions on the same cores stay quick; its children inherit it.
NICENESS = 15
_PR_SET_PDEATHSIG = 1  # Linux, <sys/prctl.h>
_SECONDS_BETWEEN_LOOKS = 0.5


def die_with_parent(parent: int) -> None:
    """Have this process killed when `parent`, which must be its parent, ends; at once if it has ended.

    Linux's parent-death signal; it survives exec. Elsewhere a thread looks, which does not.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
    else:
        threading.Thread(target=_die_without, args=(parent,), daemon=True).start()


def die_with_supervisors() -> None:
    """In a training process: die with whoever launched it and, if torchrun started it, with that too."""
    supervisors = [int(pid) for pid in os.environ.get(SUPERVISOR_VARIABLE, "").split()]
    if not supervisors:  # started by hand
        return
    launcher, launched = supervisors
    parent = launcher if launched == os.getpid() else launched
    die_with_parent(parent)
    if parent != launcher and sys.platform != "linux":
        threading.Thread(target=_die_without, args=(launcher,), daemon=True).start()


@contextmanager
def only_training_in(lock_file: Path, *, patience: float = 60.0) -> Iterator[None]:
    """Hold the lock on a job's directory; the system releases it when the process dies.

    Raises:
        TrainingFailedError: another process still holds it after `patience` seconds.
    """
    deadline = time.monotonic() + patience
    with lock_file.open("a") as lock:
        while not _locked(lock.fileno()):
            if time.monotonic() > deadline:
                raise TrainingFailedError(
                    f"Another training is running in {lock_file.parent}; it is not disturbed."
                )
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        yield


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _die_without(process: int) -> None:
    while _is_alive(process):
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    os.kill(os.getpid(), signal.SIGKILL)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def main() -> None:
    """Bind this process to its parent, give way to others, then become the command."""
    parent, *command = sys.argv[1:]
    die_with_parent(int(parent))
    os.setpriority(os.PRIO_PROCESS, 0, max(NICENESS, os.getpriority(os.PRIO_PROCESS, 0)))
    os.environ[SUPERVISOR_VARIABLE] = f"{parent} {os.getpid()}"
    os.execv(command[0], command)  # noqa: S606  # the launcher's own command


if __name__ == "__main__":
    main()
