"""Several hosts that do one training together. Without torch.

The first host runs the training (`run_training`) and writes into the job's directory, which all of them
share, where its processes wait for the others'. Each other host takes part (`join_training`) for as long as
that is what the file says. torchrun joins their processes, and gloo or NCCL moves the gradients.
"""

from __future__ import annotations

import fcntl
import socket
import struct
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

from imil_backend.errors import TrainingFailedError
from imil_backend.learning.contract.training_job import LOG_FILE, RENDEZVOUS_FILE, read_json, write_json

SECONDS_TO_COME = 600  # for all hosts; then a training that has not begun fails
SECONDS_TO_COME_BACK = 30  # for hosts without which a training can go on
_NOBODY_WAITS = ""  # in the place of an id
_SIOCGIFADDR = 0x8915  # Linux, <linux/sockios.h>: the IPv4 address of an interface


@dataclass(frozen=True)
class Hosts:
    """The hosts of a training, as the first of them knows them."""

    count: int  # 2 or more
    address: str  # of the first one, as the others reach it
    # Called several times a second with the id of the rendezvous: asks others to join it where that is still
    # to be done. False: one that takes part has vanished, and nothing may tell its connections of it, as when
    # a machine loses its power.
    invite: Callable[[str], bool]


@dataclass(frozen=True)
class Rendezvous:
    """Where the processes of all hosts meet; another one at each start."""

    id: str
    endpoint: str  # host:port, of the first host
    fewest: int  # hosts that the training begins or goes on with
    most: int


@dataclass(frozen=True)
class Part:
    """What one host does of a start of a training."""

    directory: Path
    rendezvous: Rendezvous
    address: str  # of this host
    is_first: bool
    goes_on: Callable[[], bool]  # asked several times a second
    log_file: str
    _began: float = field(default_factory=time.monotonic)

    @property
    def torchrun_options(self) -> list[str]:
        """Options with which torchrun joins the other hosts."""
        meeting = self.rendezvous
        limits = f"join_timeout={SECONDS_TO_COME},last_call_timeout={SECONDS_TO_COME_BACK}"
        return [
            *("--nnodes", f"{meeting.fewest}:{meeting.most}", "--rdzv-backend", "c10d"),
            *("--rdzv-endpoint", meeting.endpoint, "--rdzv-id", meeting.id),
            *("--rdzv-conf", f"is_host={int(self.is_first)},{limits}", "--local-addr", self.address),
        ]

    @property
    def environment(self) -> dict[str, str]:
        """Has gloo and NCCL use the interface of this host's address.

        Left to themselves they may take that of the machine's name, which on a Debian is 127.0.1.1.
        """
        found = _interface_of(self.address)
        return {"GLOO_SOCKET_IFNAME": found, "NCCL_SOCKET_IFNAME": found} if found else {}

    def check_time(self) -> None:
        """Check that there is still time for the hosts to come.

        Raises:
            TrainingFailedError: not all came in time.
        """
        if self.rendezvous.fewest > 1 and time.monotonic() - self._began >= SECONDS_TO_COME:
            raise TrainingFailedError(
                f"The training in {self.directory} has waited {SECONDS_TO_COME / 60:.0f} minutes for the "
                f"{self.rendezvous.most} hosts of IMIL_TRAINING_NODES, and not all came. Is a worker running "
                f"on each, and does it reach {self.address} (IMIL_TRAINING_ADDRESS)? Then retry with `imil "
                f"train`, or set fewer; see {self.directory / self.log_file}."
            )

    def end(self) -> None:
        """Have the other hosts' parts end, too, if this is the first one's."""
        if self.is_first:
            _write(self.directory, replace(self.rendezvous, id=_NOBODY_WAITS))


def first_part(directory: Path, hosts: Hosts, *, fewest: int) -> Part:
    """The first host's part; from now on others can join it."""
    with socket.create_server(("", 0)) as probe:
        port = probe.getsockname()[1]
    rendezvous = Rendezvous(uuid.uuid4().hex, f"{hosts.address}:{port}", fewest, hosts.count)
    _write(directory, rendezvous)
    return Part(
        directory,
        rendezvous,
        hosts.address,
        is_first=True,
        goes_on=partial(hosts.invite, rendezvous.id),
        log_file=LOG_FILE,
    )


def other_part(directory: Path, address: str) -> Part | None:
    """The part of another host, of this address; None while no training waits for hosts here."""
    rendezvous = _read(directory)
    if rendezvous is None:
        return None
    return Part(
        directory,
        rendezvous,
        address,
        is_first=False,
        goes_on=lambda: _read(directory) == rendezvous,
        log_file=f"training-{address}.log",
    )


def forget_rendezvous(directory: Path) -> None:
    """Remove the file of a training that has ended."""
    (directory / RENDEZVOUS_FILE).unlink(missing_ok=True)


def _write(directory: Path, rendezvous: Rendezvous) -> None:
    # Replaced and not removed: a network file system may go on saying that a file is not there.
    write_json(directory / RENDEZVOUS_FILE, asdict(rendezvous))


def _read(directory: Path) -> Rendezvous | None:
    try:
        found = Rendezvous(**read_json(directory / RENDEZVOUS_FILE))
    except FileNotFoundError:
        return None
    return None if found.id == _NOBODY_WAITS else found


def _interface_of(address: str) -> str | None:
    """The network interface that has this address; None where it cannot be told."""
    if sys.platform != "linux":
        return None
    own = socket.gethostbyname(address)
    return next((name for _, name in socket.if_nameindex() if _address_of(name) == own), None)


def _address_of(interface: str) -> str | None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            answer = fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, struct.pack("256s", interface.encode()[:15]))
        except OSError:  # it has none
            return None
    return socket.inet_ntoa(answer[20:24])
