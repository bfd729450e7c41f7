"""The images that a measure goes through, in batches as large as it likes."""

from collections.abc import Callable, Iterator

import torch

Batch = tuple[torch.Tensor, torch.Tensor]


class Images:
    """Images and labels of a data set, normalized when they are taken.

    Args:
        images: (n, C, H, W), uint8 or floating point.
        labels: (n,), on the device where batches are wanted.
        normalize: from `images` to what the network is given.
        batch: images of a batch, unless it is said otherwise.
        seed: of the run; streams of measures are derived from it.
        loss: that the run was trained with, see `whysgd.training.losses`; measures are of this loss.
    """

    def __init__(
        self,
        images: torch.Tensor,
        labels: torch.Tensor,
        normalize: Callable[[torch.Tensor], torch.Tensor] = lambda images: images,
        batch: int = 1000,
        seed: int = 0,
        loss: str = "cross_entropy",
    ):
        self.images, self.labels, self.normalize, self.batch, self.seed = images, labels, normalize, batch, seed
        self.loss = loss

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, places: torch.Tensor) -> Batch:
        """Inputs and labels of the images at these places, (m,) on the device of the images."""
        inputs = self.images[places].to(self.labels.device, non_blocking=True)
        return self.normalize(inputs), self.labels[places.to(self.labels.device)]

    def batches(self, size: int | None = None) -> Iterator[Batch]:
        """Yield all images in their order, `size` at a time; the last batch may be smaller."""
        size = size or self.batch
        for start in range(0, len(self), size):
            inputs = self.images[start : start + size].to(self.labels.device, non_blocking=True)
            yield self.normalize(inputs), self.labels[start : start + size]

    def first(self, count: int) -> "Images":
        """The first so many images, or all if there are fewer."""
        return Images(self.images[:count], self.labels[:count], self.normalize, self.batch, self.seed, self.loss)
