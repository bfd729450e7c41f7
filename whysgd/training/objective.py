"""The loss of micro-batches as a function of parameter vectors, without side effects.

All arithmetic on parameters (norms, shifts, momentum) is done on vectors of length P; the network sees views of them.
Each of K micro-batches has a parameter vector of its own: θ is (K, P) and the loss is (K,). K counts pairs of a seed
and one of its micro-batches.
"""

from collections.abc import Iterable
from contextlib import nullcontext
from math import prod

import torch
from torch import nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from whysgd.models.double_backward import double_backward
from whysgd.training.losses import image_losses

# A step of ResNet-18 with 32 images on one CPU thread takes 1.15 s in this memory format and 1.32 s in torch's own.
CHANNELS_LAST = torch.channels_last


class ParameterVector:
    """The places of named tensors in one vector."""

    def __init__(self, named: Iterable[tuple[str, torch.Tensor]]):
        named = list(named)
        self.names = [name for name, _ in named]
        self.shapes = [tensor.shape for _, tensor in named]
        self.sizes = [prod(shape) for shape in self.shapes]

    def __len__(self) -> int:
        return sum(self.sizes)

    def views(self, vector: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the named tensors as views of (P,), or with a leading dimension (K, …) as views of (K, P)."""
        lead = vector.shape[:-1]
        parts = vector.split(self.sizes, -1)
        return {
            name: part.view(*lead, *shape) for name, part, shape in zip(self.names, parts, self.shapes, strict=True)
        }

    def inputs(self, vector: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the named tensors for a network to read: `views`, each of them `aligned`."""
        return {name: aligned(view) for name, view in self.views(vector).items()}

    def vector(self, named: dict[str, torch.Tensor], lead: int = 0) -> torch.Tensor:
        """Return the vector of named tensors that share `lead` leading dimensions."""
        return torch.cat([named[name].flatten(lead) for name in self.names], -1)


def aligned(view: torch.Tensor) -> torch.Tensor:
    """Return a view, or on a GPU a copy of one that begins at no multiple of 16 bytes of its memory.

    On an H200, eager steps of a second seed that began at such a place failed with "misaligned address". A compiled
    pass may leave the copy out; it gets each seed's θ in memory of its own.
    """
    odd = view.is_cuda and view.storage_offset() * view.element_size() % 16
    return view.clone(memory_format=torch.contiguous_format) if odd else view


class Objective:
    """L_B(θ), the mean loss over each micro-batch, for a network of `whysgd.models`.

    Args:
        model: gives the architecture; its own weights and buffers are never used or changed.
        dtype: of the activations in training; None: that of θ. Losses, gradients and statistics are in that of θ.
        loss, smoothing: see `whysgd.training.losses`.
        running: batch norm's statistics (Q,), for gradients in evaluation mode; None: those of training mode.
    """

    def __init__(
        self, model: nn.Module, dtype: torch.dtype | None = None, loss: str = "cross_entropy", smoothing: float = 0.0,
        running: torch.Tensor | None = None,
    ):  # fmt: skip
        self.model, self.dtype, self.loss, self.smoothing, self.running = model, dtype, loss, smoothing, running
        self.parameters = ParameterVector(model.named_parameters())
        norms = {name: module for name, module in model.named_modules() if isinstance(module, _BatchNorm)}
        own = {f"{name}.{key}" if name else key: buffer for name, module in norms.items()
               for key, buffer in module.named_buffers(recurse=False)}  # fmt: skip
        self.counters = {name for name in own if name.endswith("num_batches_tracked")}
        self.buffers = ParameterVector((name, buffer) for name, buffer in own.items() if name not in self.counters)
        # Buffers that are no statistics of batch norm, of a network from elsewhere, stay as they are.
        self.constants = {name: buffer for name, buffer in model.named_buffers() if name not in own}
        momenta = {module.momentum for module in norms.values()}
        if len(momenta) > 1 or None in momenta:
            raise ValueError(f"batch norm layers must share one momentum; found {momenta}")
        self.momentum = momenta.pop() if momenta else 0.0

    def forward(self, theta: torch.Tensor, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the logits of K micro-batches in the objective's mode, and what they add to the running statistics.

        Args:
            theta: (K, P).
            images: (K, n, C, H, W) normalized.

        Returns:
            logits (K, n, classes); statistics (K, Q): momentum · (mean or unbiased variance) of each micro-batch and
            norm layer, see `statistic_weights`.
        """
        k, n = images.shape[:2]
        images = images if self.dtype is None else images.to(self.dtype)
        if k == 1:
            # Weights of the usual shape: torch's own layers.
            theta, lead = theta[0], ()
            inputs = images[0].contiguous(memory_format=CHANNELS_LAST)
        else:
            lead, inputs = (k,), images.transpose(0, 1).flatten(1, 2)
        # Batch norm updates its buffers in place: b ← (1 − m)·b + m·statistic. Starting from zero
        # leaves m·statistic, and the network's own running statistics are out of its reach.
        if self.running is None:
            fresh = {
                name: theta.new_zeros((*lead, *shape))
                for name, shape in zip(self.buffers.names, self.buffers.shapes, strict=True)
            }
        else:
            fresh = {
                name: buffer.clone() for name, buffer in self.buffers.views(self.running.expand(*lead, -1)).items()
            }
        # Counters are out of its reach, too.
        fresh_counters = dict.fromkeys(self.counters, torch.zeros((), dtype=torch.int64, device=theta.device))
        named = {**self.parameters.inputs(theta), **fresh, **fresh_counters}
        logits = functional_call(self.model.train(self.running is None), named, (inputs,)).to(theta.dtype)
        statistics = self.buffers.vector(fresh, len(lead)).view(k, -1) if fresh else theta.new_zeros(k, 0)
        return logits.view(n, k, -1).transpose(0, 1), statistics

    def losses(self, theta: torch.Tensor, images: torch.Tensor, labels: torch.Tensor):
        """Return the losses (K,) of micro-batches with labels (K, n) in training mode, and what `forward` adds."""
        logits, statistics = self.forward(theta, images)
        return self.mean_losses(logits, labels), statistics

    def mean_losses(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the mean loss (K,) of each micro-batch, for logits (K, n, classes) and labels (K, n)."""
        return image_losses(logits, labels, self.loss, self.smoothing).mean(1)

    def gradients(self, theta: torch.Tensor, images, labels, differentiable: bool = False):
        """Return losses (K,), the gradients (K, P) of each micro-batch's loss, and statistics (K, Q).

        Args:
            differentiable: keep the graph, so that the gradients can be differentiated at `theta`, which must then
                require gradients itself.
        """
        if not differentiable:
            theta = theta.detach().requires_grad_()
        with double_backward() if differentiable else nullcontext():
            losses, statistics = self.losses(theta, images, labels)
        (gradients,) = torch.autograd.grad(losses.sum(), theta, create_graph=differentiable)
        return losses.detach(), gradients, statistics

    def statistic_weights(self, count: int, like: torch.Tensor) -> torch.Tensor:
        """Return the weights (N,) of N micro-batches' statistics in the running ones, as if they had passed one by one.

        r_N = (1 − m)^N r_0 + Σ_i (1 − m)^(N−1−i) s_i, with s_i = m · (statistic of micro-batch i).

        Args:
            count: N.
            like: gives dtype and device.
        """
        power = torch.arange(count - 1, -1, -1, dtype=like.dtype, device=like.device)
        return (1 - self.momentum) ** power

    @torch.inference_mode()
    def logits(self, theta: torch.Tensor, running: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """Return logits (n, classes) in evaluation mode, at θ (P,) with running statistics (Q,)."""
        self.model.eval()
        images = images.contiguous(memory_format=CHANNELS_LAST)
        return functional_call(self.model, {**self.parameters.inputs(theta), **self.buffers.inputs(running)}, (images,))
