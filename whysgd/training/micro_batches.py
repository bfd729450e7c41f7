"""The micro-batches that share a pass, as a penalty sees them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch

from whysgd.models.double_backward import double_backward
from whysgd.models.layers import dropout_keys
from whysgd.training.objective import Objective


@dataclass(eq=False, repr=False)
class MicroBatches:
    """K pairs of a seed and one of its micro-batches B: a penalty asks for what it needs, and only that is computed.

    The first pass gives `losses_now` and `statistics`. A penalty that differentiates needs no pass of its own: it
    starts from `logits`, `losses` or `attached_gradient`, which have their graph to `theta`. If it frees that graph, it
    asks for `gradient` before.

    Attributes:
        objective: the loss.
        gradients_of: a function like `Objective.gradients`, for passes that nothing differentiates.
        theta: θ (K, P), a copy for each micro-batch, where a graph of its own starts.
        images, labels: (K, n, C, H, W) normalized, and (K, n).
        lr: the current learning rate η.
        full_gradient: ḡ (K, P) of the whole step at the same θ, if the penalty needs it.
        draws: what the penalty's `draw` drew for these micro-batches (K, …), if it has one.
        keys: of dropout (K,), if the network has some.
    """

    objective: Objective
    gradients_of: Callable
    theta: torch.Tensor
    images: torch.Tensor
    labels: torch.Tensor
    lr: float | torch.Tensor = 0.0
    full_gradient: torch.Tensor | None = None
    draws: torch.Tensor | None = None
    keys: torch.Tensor | None = None

    def __post_init__(self):
        self.theta = self.theta.detach().requires_grad_()
        self.losses_now = self.statistics = self._gradient = None

    @cached_property
    def logits(self) -> torch.Tensor:
        """The logits (K, n, classes), with their graph to `theta`."""
        with double_backward(), dropout_keys(self.keys):
            logits, self.statistics = self.objective.forward(self.theta, self.images)
        return logits

    @cached_property
    def losses(self) -> torch.Tensor:
        """The losses L_B (K,), with their graph to `theta`."""
        losses = self.mean_losses(self.logits, self.labels)
        self.losses_now = losses.detach()
        return losses

    @cached_property
    def attached_gradient(self) -> torch.Tensor:
        """The gradients g_B = ∇L_B (K, P), with their graph to `theta`."""
        (gradient,) = torch.autograd.grad(self.losses.sum(), self.theta, create_graph=True)
        self._gradient = gradient.detach()
        return gradient

    @property
    def gradient(self) -> torch.Tensor:
        """The gradients g_B (K, P) as plain numbers."""
        if self._gradient is None and "logits" in self.__dict__:
            (self._gradient,) = torch.autograd.grad(self.losses.sum(), self.theta, retain_graph=True)
        if self._gradient is None:
            self.losses_now, self._gradient, self.statistics = self.gradients_at(self.theta.detach())
        return self._gradient

    def gradient_at(self, theta: torch.Tensor) -> torch.Tensor:
        """Return ∇L_B (K, P) at another θ (K, P)."""
        return self.gradients_at(theta)[1]

    def gradients_at(self, theta: torch.Tensor):
        """Return losses, gradients and statistics at θ (K, P)."""
        with dropout_keys(self.keys):
            return self.gradients_of(self.objective, theta, self.images, self.labels)

    def mean_losses(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the mean loss (K,) of each micro-batch for logits (K, n, classes) and labels (K, n)."""
        return self.objective.mean_losses(logits, labels)

    def squared_norm(self, scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the gradient (K, P) and the value (K,) of ‖∇s‖², for scores s (K,) with their graph to `theta`.

        The gradient 2 (∂q/∂θ)ᵀ q with q = ∇s is exact, by double backward.
        """
        if scores is self.losses:
            q = self.attached_gradient
        else:
            self.gradient  # noqa: B018, computed before its graph is freed
            (q,) = torch.autograd.grad(scores.sum(), self.theta, create_graph=True)
        fixed = q.detach()
        (product,) = torch.autograd.grad(q, self.theta, grad_outputs=2 * fixed)
        return product, fixed.square().sum(-1)
