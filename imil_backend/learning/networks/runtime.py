"""The device, the precision and the processes that a training or a prediction runs on.

`python -m imil_backend.learning.networks.runtime DEVICE` prints the precision that is faster on a device.
"""

from __future__ import annotations

import os
import sys
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Literal, TypeVar

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from imil_backend.errors import SettingsError
from imil_backend.learning.contract.training_job import Precision
from imil_backend.learning.networks.convolution import use_matrix_products
from imil_backend.learning.networks.precision import faster_precision

Shared = TypeVar("Shared")
# A process may wait for hours while the first one fills the pixel cache; a dead one is torchrun's to notice.
_PATIENCE = timedelta(days=2)


@dataclass(frozen=True)
class Runtime:
    """Where the work is done: one process of `world_size`, `rank` counting from 0."""

    device: torch.device
    precision: Precision
    rank: int = 0
    world_size: int = 1

    @property
    def is_rank_zero(self) -> bool:
        """Whether this is the process that writes files."""
        return self.rank == 0

    def autocast(self) -> AbstractContextManager[None]:
        """A context in which convolutions and matrix products take the chosen precision."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16")

    def all_reduce(self, tensor: torch.Tensor) -> torch.Tensor:
        """The sum over all processes, in place; where each fills its own places of zeros, all of them."""
        if self.world_size > 1:
            distributed.all_reduce(tensor)
        return tensor

    def broadcast(self, value: Shared) -> Shared:
        """The first process's value, in every process."""
        if self.world_size == 1:
            return value
        box = [value]
        distributed.broadcast_object_list(box, src=0)
        return box[0]

    def replicate(self, network: nn.Module) -> nn.Module:
        """The network on the device; with several processes, one whose gradients become their mean."""
        use_matrix_products(network)
        network = network.to(self.device).to(memory_format=torch.channels_last)
        if self.world_size == 1:
            return network
        return DistributedDataParallel(network, gradient_as_bucket_view=True)


def start_runtime(
    device_name: str,
    precision: Literal["auto", "float32", "bfloat16"],
    directory: Path | None = None,
    *,
    deterministic: bool,
) -> Runtime:
    """Join the processes that torchrun has started (or be the only one) and set torch up for training.

    `directory` remembers which precision is the faster one on this device, see `faster_precision`.

    Raises:
        SettingsError: the device is not there, or there are fewer GPUs than processes.
    """
    processes, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    device = choose_device(device_name, int(os.environ.get("LOCAL_RANK", "0")))
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if deterministic:
        precision = "float32" if precision == "auto" else precision
        torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = not deterministic
    # On a CPU oneDNN may round float32 products to fewer bits too; there bfloat16 is the faster way to do so.
    high = device.type == "cuda" and not deterministic
    torch.set_float32_matmul_precision("high" if high else "highest")
    if processes > 1:
        backend = "nccl" if device.type == "cuda" else "gloo"
        distributed.init_process_group(backend, timeout=_PATIENCE)
    if precision != "auto":
        return Runtime(device, precision, rank, processes)
    runtime = Runtime(device, "float32", rank, processes)
    faster = faster_precision(device, directory) if runtime.is_rank_zero else "float32"
    return replace(runtime, precision=runtime.broadcast(faster))


def visible_gpus(device_name: str) -> list[str]:
    """What CUDA_VISIBLE_DEVICES calls the GPUs that trainings on this device may use; none on a CPU."""
    if device_name not in {"auto", "cuda"} or not torch.cuda.is_available():
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",") if visible else [str(number) for number in range(torch.cuda.device_count())]


def choose_device(name: str, local_rank: int = 0) -> torch.device:
    """The device called "cuda", "mps" or "cpu", or the best there is for "auto".

    Raises:
        SettingsError: this machine has none of that name, or fewer GPUs than processes.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind, there in available.items() if there)
    if not available.get(name, False):
        raise SettingsError(f"Device {name} is not available here; set IMIL_DEVICE to auto or cpu.")
    if name != "cuda":
        return torch.device(name)
    if local_rank >= torch.cuda.device_count():
        raise SettingsError(
            f"There are {torch.cuda.device_count()} GPUs, fewer than training processes. Set "
            "IMIL_TRAINING_PROCESSES."
        )
    return torch.device("cuda", local_rank)


if __name__ == "__main__":
    sys.stdout.write(faster_precision(choose_device(sys.argv[1])))
