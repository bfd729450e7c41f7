"""Random crop and horizontal flip of uint8 images, and normalization, on any device.

The draws are made apart from the images, in numpy, so that they are the same on every device.
Padding is black before normalization, as in the published code.
"""

from dataclasses import dataclass

import numpy as np
import torch

from whysgd.streams import stream
from whysgd.study.settings import Augmentation, CropAndFlip


@dataclass(frozen=True)
class Draws:
    """One augmentation of each image: crop offsets in [0, 2·padding] and whether it is flipped, all (n,).

    `seeds` (n,) are those of other transforms, if there are any.
    """

    top: torch.Tensor
    left: torch.Tensor
    flip: torch.Tensor
    seeds: torch.Tensor | None = None

    def take(self, index: torch.Tensor) -> "Draws":
        """The draws of the images `index` (any shape)."""
        seeds = None if self.seeds is None else self.seeds[index]
        return Draws(self.top[index], self.left[index], self.flip[index], seeds)


def draw(
    augmentation: Augmentation, images: int, seed: int, epoch: int, device="cpu", purpose: str = "augment"
) -> Draws:
    """The augmentation of every image of the data set in one epoch.

    The stream is that of (seed, "augment", epoch): an image's draw does not depend on the order or
    the micro-batch in which it is used. What is drawn for another purpose has a stream of that name. The seeds of other
    transforms are from (seed, "augment-transforms", epoch).
    """
    top, left, flip = (
        torch.from_numpy(part).to(device) for part in _draw(stream(seed, purpose, epoch), augmentation, images)
    )  # fmt: skip
    seeds = None
    if augmentation.transforms:
        seeds = torch.from_numpy(stream(seed, f"{purpose}-transforms", epoch).integers(2**63 - 1, size=images))
    return Draws(top, left, flip, seeds)


def draw_copy(augmentation: CropAndFlip, images: int, seed: int, copy: int) -> tuple[np.ndarray, ...]:
    """The augmentation of every image of one stored copy: top, left and flip, all (n,).

    The stream is that of (seed, "store", copy): an image's draw depends on its copy, its index and the number of
    images, not on what is drawn before, or by whom.
    """
    return _draw(stream(seed, "store", copy), augmentation, images)


def _draw(random: np.random.Generator, augmentation: CropAndFlip, images: int) -> tuple[np.ndarray, ...]:
    top, left = random.integers(0, 2 * augmentation.crop_padding + 1, size=(2, images))
    flip = random.integers(0, 2, size=images).astype(bool) if augmentation.flip else np.zeros(images, bool)
    return top, left, flip


def crop_and_flip(images: torch.Tensor, draws: Draws, padding: int) -> torch.Tensor:
    """Pad with zeros, cut out a window of the original size at (top, left), flip it where drawn.

    Equal to torchvision's pad, crop and hflip with the same offsets.

    Args:
        images: (n, C, H, W), any dtype.
        draws: offsets and flips, each (n,).
        padding: pixels on each side.

    Returns:
        (n, C, H, W) of the same dtype.
    """
    n, channels, height, width = images.shape
    padded = torch.nn.functional.pad(images, (padding,) * 4)
    columns = torch.arange(width, device=images.device).expand(n, width)
    columns = torch.where(draws.flip[:, None], width - 1 - columns, columns) + draws.left[:, None]
    rows = torch.arange(height, device=images.device) + draws.top[:, None]
    pixels = rows[:, :, None] * (width + 2 * padding) + columns[:, None, :]
    pixels = pixels.reshape(n, 1, height * width).expand(n, channels, -1)
    return padded.flatten(2).gather(2, pixels).view(n, channels, height, width)


class Normalizer:
    """(x/255 − mean)/std per channel, in floating point."""

    def __init__(self, mean, std, dtype=torch.float32, device="cpu"):
        shape = (len(mean), 1, 1)
        self.mean = torch.tensor(mean, dtype=torch.float64).mul(255).to(device, dtype).view(shape)
        self.scale = torch.tensor(std, dtype=torch.float64).mul(255).reciprocal().to(device, dtype).view(shape)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """(…, C, H, W) uint8 to floating point of the same shape."""
        return (images.to(self.mean.dtype) - self.mean) * self.scale
