import numpy as np
import torch

from imil_backend.learning.child.steps.epoch import image_size
from imil_backend.learning.contract.training_job import Recipe
from imil_backend.learning.inputs.augmentation import augment, prepare
from imil_backend.learning.inputs.batches import PARAMETERS
from imil_backend.learning.networks.network import IMAGENET_MEAN, IMAGENET_STD, ModelConfig

CONFIG = ModelConfig(("a", "b"), 16, 1, "v1")


def images(count: int, channels: int = 1) -> torch.Tensor:
    random = np.random.default_rng(0)
    return torch.from_numpy(random.integers(0, 256, (count, 16, 16, channels), dtype=np.uint8))


def test_grey_becomes_three_normalised_channels_last():
    pixels = images(3)
    prepared = prepare(pixels, CONFIG)
    assert prepared.shape == (3, 3, 16, 16)
    assert prepared.is_contiguous(memory_format=torch.channels_last)
    for channel in range(3):
        expected = (pixels[..., 0] / 255 - IMAGENET_MEAN[channel]) / IMAGENET_STD[channel]
        assert torch.allclose(prepared[:, channel], expected, atol=1e-5)


def test_no_parameters_and_neutral_ones_leave_an_image_as_it_is():
    neutral = torch.zeros(3, PARAMETERS)
    assert torch.allclose(prepare(images(3, 3), CONFIG, neutral), prepare(images(3, 3), CONFIG), atol=1e-3)


def test_every_image_of_a_batch_is_changed_in_its_own_way():
    same = images(1).expand(8, -1, -1, -1)
    parameters = torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (8, PARAMETERS)).astype(np.float32))
    prepared = prepare(same, CONFIG, parameters)
    assert len({tuple(image.flatten().tolist()) for image in prepared}) == 8
    alone = prepare(same[3:4], CONFIG, parameters[3:4])
    assert torch.allclose(alone[0], prepared[3], atol=1e-5)


def test_black_comes_in_from_outside_and_grey_values_stay_in_range():
    white = torch.full((1, 1, 16, 16), 255.0)
    moved_right = torch.tensor([[0, 0, 1, 0, 0, 0]], dtype=torch.float32)
    assert augment(white, moved_right)[0, 0, 8, -1] < 255
    brighter = torch.tensor([[0, 0, 0, 0, 1, 1]], dtype=torch.float32)
    assert augment(white, brighter).max() == 255


def test_smaller_images_are_averages_of_the_full_ones():
    board = torch.zeros(1, 8, 8, 1, dtype=torch.uint8)
    board[:, ::2, ::2] = board[:, 1::2, 1::2] = 200
    config = ModelConfig(("a", "b"), 8, 1, "v1.5", mean=(0, 0, 0), std=(1 / 255,) * 3)
    assert torch.allclose(prepare(board, config, size=2), torch.tensor(100.0), atol=10)


def test_progressive_epochs_grow_and_the_last_third_is_full_size():
    recipe = Recipe(image_size=224, epochs=10, progressive=True)
    sizes = [image_size(recipe, epoch) for epoch in range(1, 11)]
    assert sizes == [128, 128, 128, 160, 160, 160, 224, 224, 224, 224]
    assert image_size(Recipe(epochs=1, progressive=True), 1) == 224
    assert image_size(Recipe(epochs=3), 1) == 224
    assert image_size(Recipe(image_size=32, epochs=3, progressive=True), 1) == 32
