"""Starts a training process, supervises it and returns its result. Without torch.

The child is torchrun with its processes; or, of one process alone, that process itself, which spares it the
seconds that torchrun takes to load torch. What it needs to be fast must be in its environment before it
starts; what it needs to go on after a death is in the job's directory.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, cast, get_args

from imil_backend import errors
from imil_backend.errors import ImilError, OutOfMemoryError, TrainingFailedError, TrainingStoppedError
from imil_backend.learning.contract.hosts import Hosts, Part, first_part, forget_rendezvous, other_part
from imil_backend.learning.contract.proposed import PROPOSED_FILE
from imil_backend.learning.contract.training_job import (
    CHECKPOINT_FILE,
    ERROR_FILE,
    LAUNCH_FILE,
    LOG_FILE,
    RESULT_FILE,
    Precision,
    Progress,
    read_json,
    read_progress,
    read_training_job,
    write_json,
)

_SECONDS_BETWEEN_LOOKS = 0.2
_SECONDS_TO_STOP = 20
_RESTARTS_WITHOUT_AN_EPOCH = 2
_SMALLEST_MICRO_BATCH = 2
# Freshly mapped pages cost up to a third of a step on the CPU: have malloc keep memory, in huge pages. And
# OpenMP must wait passively, or one busy neighbour makes it ten times slower.
CHILD_ENVIRONMENT = {
    "OMP_WAIT_POLICY": "passive",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "100000000000",
    "MALLOC_TOP_PAD_": "268435456",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # without it cuBLAS refuses to be deterministic
    "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "5",  # seconds; everything worth keeping is on the disk
}

logger = logging.getLogger(__name__)


def run_proposing(directory: Path) -> Path:
    """Have masks proposed by the samples and masks of a job's directory, in a process with torch.

    Args:
        directory: written by `write_training_job`; the samples painted, and those to propose for.

    Returns:
        The path of its PROPOSED_FILE.

    Raises:
        DatasetError: the images cannot be used.
        TrainingFailedError: it failed otherwise; the message says where the log is.
    """
    environment = child_environment(available_threads(1))
    with (directory / LOG_FILE).open("ab") as log:
        done = subprocess.run(
            [
                *_supervised(),
                sys.executable,
                "-m",
                "imil_backend.learning.child.proposing_process",
                directory,
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            check=False,
        )
    if (directory / ERROR_FILE).exists():
        raise _error_of(directory)
    if done.returncode != 0:
        raise TrainingFailedError(f"No masks could be proposed; see {directory / LOG_FILE}.")
    return directory / PROPOSED_FILE


def measured_precision(device: str, threads: int) -> Precision:
    """The precision in which a device trains faster, measured in a process of its own: no GPU stays in use.

    Args:
        device: as of IMIL_DEVICE.
        threads: of the process.

    Raises:
        TrainingFailedError: the device is not there, or cannot do it; the message has the last line.
    """
    command = [sys.executable, "-m", "imil_backend.learning.networks.runtime", device]
    environment = child_environment(threads)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    found = done.stdout.strip()
    if done.returncode == 0 and found in get_args(Precision):
        return cast(Precision, found)
    last = (done.stderr.strip().splitlines() or ["no reason"])[-1]
    raise TrainingFailedError(f"The precision of {device!r} could not be measured: {last}")


def run_training(
    directory: Path,
    *,
    processes: int = 1,
    threads: int | None = None,
    gpus: str | None = None,
    hosts: Hosts | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> dict[str, Any]:
    """Do the training job of a directory, resuming where it was interrupted. Idempotent.

    A process that was killed is restarted from its last epoch; one that ran out of memory, with half the
    micro-batch and the same batch (gradients add up). Of several hosts all must come before a training
    begins; when one is lost later, those that are left go on from the last epoch, and it can come back.

    Args:
        directory: written by `write_training_job`.
        processes: Training processes of this host, one for each GPU.
        threads: Of each of them; if None as `available_threads` says.
        gpus: CUDA_VISIBLE_DEVICES of these processes; if None all that this process sees.
        hosts: Those that do the training together, this being the first; if None it is the only one.
        on_progress: Called whenever the child has said something new.
        should_stop: Asked several times a second; once true, the child is ended.

    Returns:
        The content of `result.json`.

    Raises:
        DatasetError, SettingsError, WeightsError: the job cannot be done as it is.
        OutOfMemoryError: memory does not suffice for the smallest micro-batch either.
        TrainingFailedError: it failed otherwise; the message says how and where the log is.
        TrainingStoppedError: `should_stop` said so.
    """
    restarts, begun = 0, False
    while not (directory / RESULT_FILE).exists():
        settings = _launch_settings(directory, threads or available_threads(processes))
        (directory / ERROR_FILE).unlink(missing_ok=True)
        epochs_before, progress_before = _checkpoint_time(directory), read_progress(directory)
        part = None
        if hosts is not None:
            part = first_part(directory, hosts, fewest=1 if begun or epochs_before else hosts.count)
        status = _run_child(directory, processes, settings, gpus, on_progress, should_stop, part)
        begun = begun or read_progress(directory) != progress_before
        if (directory / ERROR_FILE).exists():
            _handle_failure(directory, settings)
        elif status != 0:
            if part is not None and not begun:
                part.check_time()
            restarts = 0 if _checkpoint_time(directory) != epochs_before else restarts + 1
            if restarts > _RESTARTS_WITHOUT_AN_EPOCH:
                raise TrainingFailedError(
                    f"The training in {directory} died {restarts} times within one epoch without a "
                    "reason, maybe for lack of memory (try a smaller `imil train --fresh --image-size`); see "
                    f"{directory / LOG_FILE}."
                )
            logger.warning("The training in %s died; it resumes from its last epoch", directory)
        elif not (directory / RESULT_FILE).exists():
            raise TrainingFailedError(
                f"The training ended without a result. Retry with `imil train`; see {directory / LOG_FILE}."
            )
    forget_rendezvous(directory)
    return dict(read_json(directory / RESULT_FILE))


def join_training(
    directory: Path,
    address: str,
    *,
    processes: int = 1,
    threads: int | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> int | None:
    """Do this host's part of a training that another one runs, until either of them ends it.

    What comes of the training is the first host's to see; this one's log is `training-ADDRESS.log`.

    Args:
        directory: of the job, which the hosts share.
        address: of this host, as the others reach it.
        processes: Training processes of this host, one for each GPU.
        threads: Of each of them; if None as `available_threads` says.
        should_stop: Asked several times a second; once true, the part is ended.

    Returns:
        The child's exit status; None: no training waits for other hosts here.

    Raises:
        TrainingStoppedError: `should_stop` said so.
    """
    part = other_part(directory, address)
    if part is None:
        return None
    settings = {"threads": threads or available_threads(processes)}
    return _run_child(directory, processes, settings, None, None, should_stop, part)


def available_threads(processes: int) -> int:
    """Threads of each training process: what OMP_NUM_THREADS says, or its share of the processors."""
    wished = int(os.environ.get("OMP_NUM_THREADS", "0"))
    return wished or max(1, _available_processors() // processes)


def child_environment(threads: int, gpus: str | None = None) -> dict[str, str]:
    """Of a process with torch: its threads, and its CUDA_VISIBLE_DEVICES; if None all of this process's."""
    visible = {} if gpus is None else {"CUDA_VISIBLE_DEVICES": gpus}
    return {**CHILD_ENVIRONMENT, **os.environ, "OMP_NUM_THREADS": str(threads), **visible}


def _launch_settings(directory: Path, threads: int) -> dict[str, int]:
    """Threads and micro-batch size, chosen once for a job: a restart must compute what went before."""
    path = directory / LAUNCH_FILE
    if not path.exists():
        micro_batch_size = read_training_job(directory).recipe.micro_batch_size
        write_json(path, {"threads": threads, "micro_batch_size": micro_batch_size})
    return dict(read_json(path))


def _available_processors() -> int:
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _run_child(
    directory: Path,
    processes: int,
    settings: dict[str, int],
    gpus: str | None,
    on_progress: Callable[[Progress], None] | None,
    should_stop: Callable[[], bool] | None,
    part: Part | None,
) -> int:
    """Run the child to its end; its exit status, negative for a signal."""
    environment = {**(part.environment if part else {}), **child_environment(settings["threads"], gpus)}
    seen: Progress | None = None
    with (directory / (part.log_file if part else LOG_FILE)).open("ab") as log:
        child = subprocess.Popen(
            _command(directory, processes, part),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,  # Ctrl-C is for the parent, which ends the child itself
        )
    try:
        while child.poll() is None and (part is None or part.goes_on()):
            seen = _tell(directory, on_progress, seen)
            if should_stop is not None and should_stop():
                raise TrainingStoppedError(f"The training in {directory} was stopped.")
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        _tell(directory, on_progress, seen)
    finally:
        _end(child)
        if part is not None:
            part.end()
    return child.returncode


def _command(directory: Path, processes: int, part: Part | None) -> list[str]:
    training = ["-m", "imil_backend.learning.child", str(directory)]
    if part is None and processes == 1:
        return [*_supervised(), sys.executable, *training]
    alone = ["--standalone", "--local-addr", "127.0.0.1"]  # the machine's own name need not resolve
    torchrun = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        *(part.torchrun_options if part else alone),
        "--nproc-per-node",
        str(processes),
        "--log-dir",  # or it leaves a directory in /tmp behind for every start
        os.devnull,
    ]
    return [*_supervised(), *torchrun, *training]


def _supervised() -> list[str]:
    """What a command begins with that dies with this process."""
    return [sys.executable, "-m", "imil_backend.learning.contract.supervision", str(os.getpid())]


def _tell(
    directory: Path, on_progress: Callable[[Progress], None] | None, seen: Progress | None
) -> Progress | None:
    """Pass on what the child says, once."""
    progress = read_progress(directory)
    if on_progress is not None and progress is not None and progress != seen:
        on_progress(progress)
    return progress


def _end(child: subprocess.Popen[bytes]) -> None:
    """End a child that is still running (torchrun ends its processes); if it hangs, all of them."""
    if child.poll() is not None:
        return
    child.terminate()
    try:
        child.wait(_SECONDS_TO_STOP)
    except subprocess.TimeoutExpired:
        for process in (*_children(child.pid), child.pid):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        child.wait()


def _children(torchrun: int) -> list[int]:
    """Its processes, which have sessions of their own; elsewhere than on Linux they look whether it lives."""
    listing = Path(f"/proc/{torchrun}/task/{torchrun}/children")
    return [int(child) for child in listing.read_text().split()] if listing.exists() else []


def _handle_failure(directory: Path, settings: dict[str, int]) -> None:
    """Prepare another attempt with less memory, or raise what the child died of."""
    failure = read_json(directory / ERROR_FILE)
    name, message = failure["error"], failure["message"]
    if name == OutOfMemoryError.__name__:
        smaller = settings["micro_batch_size"] // 2
        if smaller < _SMALLEST_MICRO_BATCH:
            raise OutOfMemoryError(
                "Even two images at once do not fit into memory: set a smaller image_size (`imil "
                "train --fresh "
                f"--image-size`). {message}"
            )
        logger.warning("Out of memory; continuing with micro-batches of %d images", smaller)
        write_json(directory / LAUNCH_FILE, {**settings, "micro_batch_size": smaller})
        return
    raise _error_of(directory)


def _error_of(directory: Path) -> ImilError:
    """What a child died of."""
    failure = read_json(directory / ERROR_FILE)
    ours = getattr(errors, failure["error"], None)
    if isinstance(ours, type) and issubclass(ours, ImilError):
        return ours(failure["message"])
    return TrainingFailedError(f"{failure['error']}: {failure['message']} (see {directory / LOG_FILE})")


def _checkpoint_time(directory: Path) -> int:
    path = directory / CHECKPOINT_FILE
    return path.stat().st_mtime_ns if path.exists() else 0
