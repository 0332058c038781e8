"""A version for other programs: as ONNX, or as a state dict that torchvision's own resnet50 takes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from torch import nn

from imil_backend.errors import SettingsError, WeightsError
from imil_backend.files import replacing
from imil_backend.learning.networks.network import METADATA_KEY, ModelConfig, portable, save_model

ONNX_INPUT, ONNX_OUTPUT = "images", "logits"
ONNX_TOLERANCE = 1e-4  # of the largest logit, or of 1 where all are smaller
_CHECKED = 3  # images; another number than the graph was traced with


def write_state_dict(path: Path, network: nn.Module, config: ModelConfig) -> None:
    """Write a network as safetensors that `torchvision.models.resnet50` loads, and its configuration.

    Raises:
        WeightsError: it is a v1 network. torchvision's resnet50, which is v1.5, would take its weights and
            answer wrongly, and no other weights make it compute the same: v1 leaves out every other pixel
            before the 3x3 convolution, which so reaches twice as far.
        StoreError: the file cannot be written.
    """
    if config.variant != "v1.5":
        raise WeightsError(
            f"{config.name or 'This version'} is a ResNet-50 {config.variant}, and torchvision's resnet50 is "
            "v1.5: it would load these weights and predict wrongly. Export it as ONNX (--format "
            "onnx), or set the strides as in docs/versions.md."
        )
    save_model(path, network, config)


def write_onnx(path: Path, network: nn.Module, config: ModelConfig) -> None:
    """Write a network as ONNX, checked against the network itself before it takes its name.

    Its input `images` is float32 (n, 3, image_size, image_size), normalised, any n; its output `logits` is
    float32 (n, classes). The configuration is JSON in the metadata, under `imil`.

    Args:
        path: where to.
        network: on the CPU, in evaluation mode.
        config: the network's.

    Raises:
        SettingsError: the packages for ONNX are not installed.
        WeightsError: ONNX Runtime and torch disagree.
        StoreError: the file cannot be written.
    """
    try:
        import onnxruntime  # noqa: F401 - the check needs it
        import onnxscript  # noqa: F401 - torch.onnx needs it
    except ImportError as error:
        raise SettingsError(
            f"ONNX needs a package that is not installed ({error.name}). Run: pip install "
            "'imil-backend[onnx]'"
        ) from error
    program = torch.onnx.export(
        network,
        (torch.zeros(2, 3, config.image_size, config.image_size),),  # 1 would be taken for a constant
        input_names=[ONNX_INPUT],
        output_names=[ONNX_OUTPUT],
        dynamic_shapes=({0: torch.export.Dim("n")},),
        dynamo=True,
        verbose=False,
    )
    if program is None:
        raise WeightsError("torch.onnx returned no program. Update torch and onnxscript.")
    program.model.metadata_props[METADATA_KEY] = json.dumps(portable(config), ensure_ascii=False)
    with replacing(path) as temporary:
        program.save(temporary, external_data=False)
        check_onnx(temporary, network, config.image_size)


def check_onnx(path: Path, network: nn.Module, size: int) -> None:
    """See that ONNX Runtime answers as the network does, on normalised noise.

    Args:
        path: the ONNX file.
        network: on the CPU, in evaluation mode.
        size: pixels a side of the images.

    Raises:
        WeightsError: it does not.
    """
    import onnxruntime

    images = torch.randn(_CHECKED, 3, size, size, generator=torch.Generator().manual_seed(0))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (there,) = session.run([ONNX_OUTPUT], {ONNX_INPUT: images.numpy()})
    with torch.inference_mode():
        here = network(images).numpy()
    allowed = ONNX_TOLERANCE * max(1.0, float(np.abs(here).max()))
    difference = float(np.abs(here - there).max())
    if not difference <= allowed:
        raise WeightsError(
            "The ONNX file was discarded: the logits of ONNX Runtime and torch differ by "
            f"{difference:.2g}, and {allowed:.2g} is allowed. Update onnx, onnxscript and "
            "onnxruntime, and try again."
        )
