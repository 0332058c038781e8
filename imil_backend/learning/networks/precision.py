"""Whether a device computes faster in bfloat16: measured once, and remembered in a file.

What a device says of itself is not enough: one without the instructions emulates them, ten times slower.
"""

from __future__ import annotations

import hashlib
import logging
import platform
import time
from pathlib import Path
from typing import get_args

import torch
from torchvision.models.resnet import Bottleneck

from imil_backend.errors import StoreError
from imil_backend.learning.contract.training_job import Precision, read_json, write_json

CODE_VERSION = 1  # raise it when the measurement or the rule changes
REMEMBERED_FILE = "precision.json"  # {device, torch and code version: precision}
_MEASURED = ("cpu", "cuda")
_IMAGES = {"cpu": 2, "cuda": 256}  # as many as keep the device busy
_CHANNELS, _SIDE = 1024, 14  # of layer3 at 224 px
_REPEATS = 2  # the first also warms up
_GAIN = 1.1  # less is noise, and not worth bfloat16's rounding

logger = logging.getLogger(__name__)


def faster_precision(device: torch.device, directory: Path | None = None) -> Precision:
    """bfloat16 if a block of ResNet-50 is trained faster in it; float32 on devices that are not measured.

    Args:
        device: A CPU or CUDA device is measured, in half a second or, where bfloat16 is emulated, some more.
        directory: Remembers the answer, for other processes too.
    """
    if device.type not in _MEASURED:
        return "float32"
    path = None if directory is None else directory / REMEMBERED_FILE
    remembered = {} if path is None else _remembered(path)
    key = f"{_name(device)}, torch {torch.__version__}, code {CODE_VERSION}"
    if remembered.get(key) not in get_args(Precision):
        seconds = _seconds(device)
        faster = seconds["bfloat16"] * _GAIN < seconds["float32"]
        remembered[key] = "bfloat16" if faster else "float32"
        logger.info("%s: %s (%s seconds)", key, remembered[key], seconds)
        if path is not None:
            _remember(path, remembered)
    return remembered[key]


def _remembered(path: Path) -> dict[str, Precision]:
    """What was measured before; nothing where there is no file or it is damaged."""
    try:
        answers = read_json(path)
    except (OSError, ValueError):  # of JSON as of UTF-8
        return {}
    return answers if isinstance(answers, dict) else {}


def _remember(path: Path, answers: dict[str, Precision]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, answers)
    except (OSError, StoreError) as error:
        logger.warning("The faster precision will be measured again: %s", error)


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()


def _processor() -> str:
    """The processor's name and a digest of its features, since virtual ones share a name. As Linux has it."""
    listing = Path("/proc/cpuinfo")
    if not listing.exists():
        return platform.processor() or platform.machine()
    first = listing.read_text(encoding="utf-8", errors="replace").partition("\n\n")[0]
    known = {
        name.strip(): value.strip() for name, _, value in (line.partition(":") for line in first.split("\n"))
    }
    features = known.get("flags") or known.get("Features") or ""
    digest = hashlib.sha256(features.encode()).hexdigest()[:8]
    return f"{known.get('model name', platform.machine())} ({digest})"


def _seconds(device: torch.device) -> dict[Precision, float]:
    """The best time of forward and backward through a block of layer3, in each precision by turns."""
    block = Bottleneck(_CHANNELS, _CHANNELS // Bottleneck.expansion).to(device)
    block.to(memory_format=torch.channels_last)
    inputs = torch.rand(_IMAGES[device.type], _CHANNELS, _SIDE, _SIDE, device=device, requires_grad=True)
    inputs = inputs.contiguous(memory_format=torch.channels_last)
    precisions: tuple[Precision, ...] = ("float32", "bfloat16")
    times: dict[Precision, list[float]] = {precision: [] for precision in precisions}
    for _ in range(_REPEATS):
        for precision in precisions:
            began = time.perf_counter()
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
                outputs = block(inputs)
            gradients = torch.autograd.grad(outputs.float().sum(), [inputs, *block.parameters()])
            gradients[0].sum().item()  # waits for the device
            times[precision].append(time.perf_counter() - began)
    return {precision: min(times[precision]) for precision in precisions}
