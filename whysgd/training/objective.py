"""The loss of blocks as a function of one parameter vector θ, without side effects.

All arithmetic on parameters (norms, shifts, momentum) is done on vectors of length P; the network
sees views of them. For k blocks at once θ is (k, P), one copy for each block, and the loss is (k,).
"""

from collections.abc import Iterable
from contextlib import nullcontext
from math import prod

import torch
from torch import nn
from torch.func import functional_call

from whysgd.models.twice import twice_differentiable
from whysgd.training.losses import image_losses

# A step of ResNet-18 with 32 images on one CPU thread takes 1.15 s in this layout and 1.32 s in torch's own.
CHANNELS_LAST = torch.channels_last


class Layout:
    """How named tensors lie in one vector."""

    def __init__(self, named: Iterable[tuple[str, torch.Tensor]]):
        named = list(named)
        self.names = [name for name, _ in named]
        self.shapes = [tensor.shape for _, tensor in named]
        self.sizes = [prod(shape) for shape in self.shapes]

    def views(self, vector: torch.Tensor) -> dict[str, torch.Tensor]:
        """The named tensors as views of (P,), or stacked (k, …) as views of (k, P)."""
        lead = vector.shape[:-1]
        parts = vector.split(self.sizes, -1)
        return {
            name: part.view(*lead, *shape) for name, part, shape in zip(self.names, parts, self.shapes, strict=True)
        }

    def vector(self, named: dict[str, torch.Tensor], lead: int = 0) -> torch.Tensor:
        """The vector of named tensors that share `lead` leading dimensions."""
        return torch.cat([named[name].flatten(lead) for name in self.names], -1)


def block_losses(logits: torch.Tensor, labels: torch.Tensor, loss: str = "cross_entropy") -> torch.Tensor:
    """Mean loss (k,) over each of k blocks, of logits (k, n, classes) and labels (k, n)."""
    return image_losses(logits, labels, loss).mean(1)


class Objective:
    """L_B(θ), the mean loss over each block, for a network of `whysgd.models`.

    Args:
        model: gives the architecture; its own weights and buffers are never used or changed.
        dtype: of the activations in training; None: that of θ. Losses, gradients and statistics are in that of θ.
        loss: see `whysgd.training.losses`.
    """

    def __init__(self, model: nn.Module, dtype: torch.dtype | None = None, loss: str = "cross_entropy"):
        self.model, self.dtype, self.loss = model, dtype, loss
        self.parameters = Layout(model.named_parameters())
        running = [(name, b) for name, b in model.named_buffers() if not name.endswith("num_batches_tracked")]
        self.buffers = Layout(running)
        self.counters = {name for name, _ in model.named_buffers()} - set(self.buffers.names)
        momenta = {m.momentum for m in model.modules() if isinstance(m, nn.BatchNorm2d)}
        if len(momenta) > 1 or None in momenta:
            raise ValueError(f"batch norm layers must share one momentum; found {momenta}")
        self.momentum = momenta.pop() if momenta else 0.0

    def forward(self, theta: torch.Tensor, images: torch.Tensor):
        """Logits of k blocks in training mode, and what they add to the running statistics.

        Args:
            theta: (k, P) with a copy for each block, or (P,) that all share.
            images: (k, n, C, H, W) normalized.

        Returns:
            logits (k, n, classes); statistics (k, Q): momentum · (mean or unbiased variance) of each block and
            norm layer, see `statistic_weights`.
        """
        k, n = images.shape[:2]
        stacked, shared = theta.dim() == 2, theta.dim() == 1 and k > 1
        # Batch norm updates its buffers in place: b ← (1 − m)·b + m·statistic. Starting from zero
        # leaves m·statistic, and the network's own running statistics are out of its reach.
        lead = (k,) if stacked or shared else ()
        fresh = {
            name: theta.new_zeros((*lead, *shape))
            for name, shape in zip(self.buffers.names, self.buffers.shapes, strict=True)
        }
        # Counters are out of its reach, too.
        fresh_counters = dict.fromkeys(self.counters, torch.zeros((), dtype=torch.int64, device=theta.device))
        self.model.train()
        images = images if self.dtype is None else images.to(self.dtype)
        inputs = images.transpose(0, 1).flatten(1, 2) if stacked else images.flatten(0, 1)
        if not stacked:
            inputs = inputs.contiguous(memory_format=CHANNELS_LAST)
        named = {**self.parameters.views(theta), **fresh, **fresh_counters}
        logits = functional_call(self.model, named, (inputs,)).to(theta.dtype)
        logits = logits.view(n, k, -1).transpose(0, 1) if stacked else logits.view(k, n, -1)
        statistics = self.buffers.vector(fresh, len(lead)) if fresh else theta.new_zeros(*lead, 0)
        return logits, statistics if lead else statistics[None]

    def losses(self, theta: torch.Tensor, images: torch.Tensor, labels: torch.Tensor):
        """Losses (k,) of k blocks in training mode, and statistics (k, Q); see `forward`.

        Args:
            theta, images: as for `forward`.
            labels: (k, n).
        """
        logits, statistics = self.forward(theta, images)
        return block_losses(logits, labels, self.loss), statistics

    def gradients(self, theta: torch.Tensor, images, labels, differentiable: bool = False):
        """Losses (k,), gradients of each block's loss (same shape as θ), and statistics (k, Q).

        Args:
            differentiable: keep the graph, so that the gradients can be differentiated at `theta`,
                which must then require gradients itself.
        """
        if theta.dim() == 1 and len(labels) > 1:
            raise ValueError("gradients of several blocks need a copy of θ each")
        if not differentiable:
            theta = theta.detach().requires_grad_()
        with twice_differentiable() if differentiable else nullcontext():
            losses, statistics = self.losses(theta, images, labels)
        (gradients,) = torch.autograd.grad(losses.sum(), theta, create_graph=differentiable)
        return losses.detach(), gradients, statistics

    def statistic_weights(self, blocks: int, like: torch.Tensor) -> torch.Tensor:
        """Weights (N,) of N blocks' statistics in the running ones, as if the blocks had passed one by one.

        r_N = (1 − m)^N r_0 + Σ_i (1 − m)^(N−1−i) s_i, with s_i = m · (statistic of block i).

        Args:
            blocks: N.
            like: gives dtype and device.
        """
        power = torch.arange(blocks - 1, -1, -1, dtype=like.dtype, device=like.device)
        return (1 - self.momentum) ** power

    @torch.inference_mode()
    def logits(self, theta: torch.Tensor, running: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """Logits (n, classes) in evaluation mode, at θ (P,) with running statistics (Q,)."""
        self.model.eval()
        images = images.contiguous(memory_format=CHANNELS_LAST)
        return functional_call(self.model, {**self.parameters.views(theta), **self.buffers.views(running)}, (images,))
