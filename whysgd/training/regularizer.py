"""geiping2022's gradient regularizer for anyone's training loop."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.func import functional_call
from torch.nn.modules.dropout import _DropoutNd

from whysgd.study.registry import make
from whysgd.training.objective import ParameterVector
from whysgd.training.penalties.gradient_norm import ALIASES, PRODUCTS, gradient_norm


class GradRegularizer:
    """Adds the gradient of the penalty to a micro-batch's gradient: g_B ← g_B + (η/4) H_B v.

    v = block_strength · g_B + acc_strength · ḡ_pre, and η is the optimizer's current learning rate; see
    `whysgd.training.penalties.gradient_norm`. Parameters and buffers stay exactly as they are: the network is evaluated
    at shifted copies, in the mode it is in, with copies of its buffers, so batch norm's running statistics do not move
    either (in the released code they do). Arguments are those of the released class, in its order, so that a training
    loop written for it, `GradRegularizer(model, optimizer, loss_fn, **cfg, mixed_precision=False)`, can take this one.

    Args:
        model: any network.
        optimizer: `optimizer.param_groups[0]["lr"]` is η.
        loss_fn: loss_fn(model(inputs), labels) is the micro-batch's mean loss.
        norm: 2; the released class has others for "autograd-pen" alone.
        block_strength, acc_strength: weights of the micro-batch's and of the full gradient in v.
        eps: step of the differences, ‖ε v‖.
        implementation: "finite_diff" (= "forward-differences", the published one),
            "central-differences" or "autograd" (= "autograd-pen" = "exact": double backward). The released
            "autograd-pen" adds twice as much as all others where acc_strength is 0; here it is as they are.
        mixed_precision: evaluate the network under bf16 autocast; only with "autograd", since a
            difference of bf16 gradients is noise.

    Raises:
        ValueError: an unknown implementation, another norm, a negative strength, an eps not above 0, or differences
            in mixed precision.

    Example:
        >>> gradreg = GradRegularizer(model, optimizer, loss_fn, block_strength=0.5)
        >>> grads = torch.autograd.grad(loss_fn(model(inputs), labels), model.parameters())
        >>> grads = gradreg(grads, inputs, labels)
    """

    def __init__(
        self,
        model: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        loss_fn,
        norm: int = 2,
        block_strength: float = 0.1,
        acc_strength: float = 0.0,
        eps: float = 1e-2,
        implementation: str = "finite_diff",
        mixed_precision: bool = False,
    ):
        variant = ALIASES.get(implementation, implementation)
        if variant not in PRODUCTS:
            raise ValueError(f"implementation = {implementation!r}: allowed: {', '.join([*ALIASES, *PRODUCTS])}")
        if norm != 2:
            raise ValueError(f"norm = {norm!r}: must be 2")
        if block_strength < 0 or acc_strength < 0 or eps <= 0:
            raise ValueError("block_strength and acc_strength must be at least 0, eps above 0")
        if mixed_precision and variant != "exact":
            raise ValueError('mixed_precision: a difference of bf16 gradients is noise; use implementation="autograd"')
        self.model, self.optimizer, self.loss_fn = model, optimizer, loss_fn
        self.settings = make(
            "penalty", "gradient_norm", block_strength=block_strength, acc_strength=acc_strength, eps=eps,
            variant=variant,
        )  # fmt: skip
        self.mixed_precision = mixed_precision
        # The exact product makes a graph of its own; the gradients that are given need none.
        self.create_graph = False

    def __call__(
        self,
        grads: Sequence[torch.Tensor],
        inputs: torch.Tensor,
        labels: torch.Tensor,
        pre_grads: Sequence[torch.Tensor] | None = None,
    ) -> Sequence[torch.Tensor]:
        """Change the gradients of one micro-batch in place into the regularized ones, and return them.

        Args:
            grads: g_B, one tensor for each parameter that requires gradients, in the model's order.
            inputs, labels: the micro-batch they were computed on.
            pre_grads: ḡ_pre in the same form; needed if acc_strength is not 0.

        Raises:
            ValueError: pre_grads is missing, the number of gradients is not that of the parameters, or
                differences are asked for where they are noise: under autocast, with weights or gradients
                below fp32, or in a network with active dropout, which differs between two passes.
        """
        if not (self.settings.block_strength or self.settings.acc_strength):
            return grads
        if self.settings.acc_strength and pre_grads is None:
            raise ValueError("acc_strength is not 0: pre_grads, the full gradient at these weights, must be given")
        trained = [(name, p) for name, p in self.model.named_parameters() if p.requires_grad]
        if len(grads) != len(trained):
            raise ValueError(f"{len(grads)} gradients were given for {len(trained)} parameters")
        exact = self.settings.exact
        if not exact:
            _refuse_noise(self.model, grads, inputs.device.type)
        places = ParameterVector(trained)
        theta = _vector([p.detach() for _, p in trained]).requires_grad_()
        g = _vector(grads).detach()
        full_gradient = _vector(pre_grads).detach().to(g) if self.settings.acc_strength else None

        def gradient(at: torch.Tensor, differentiable: bool = False) -> torch.Tensor:
            at = at if differentiable else at.detach().requires_grad_()
            buffers = {name: buffer.clone() for name, buffer in self.model.named_buffers()}
            device = inputs.device.type
            with torch.enable_grad(), torch.autocast(device, torch.bfloat16, enabled=self.mixed_precision):
                outputs = functional_call(self.model, {**places.inputs(at), **buffers}, (inputs,))
                loss = self.loss_fn(outputs, labels)
            return torch.autograd.grad(loss, at, create_graph=differentiable)[0]

        lr = self.optimizer.param_groups[0]["lr"]
        attached = gradient(theta, differentiable=True) if exact else None
        added, _ = gradient_norm(_MicroBatch(theta, g, attached, gradient, lr, full_gradient), self.settings)
        with torch.no_grad():
            torch._foreach_add_(list(grads), list(places.views(added.detach()).values()))
        return grads


@dataclass(frozen=True)
class _MicroBatch:
    """What the penalty asks of `whysgd.training.micro_batches.MicroBatches`, for one micro-batch of any network."""

    theta: torch.Tensor
    gradient: torch.Tensor
    attached_gradient: torch.Tensor | None
    gradient_at: Callable
    lr: float
    full_gradient: torch.Tensor | None


def _refuse_noise(model: torch.nn.Module, grads, device: str) -> None:
    """Differences of gradients need fp32 and two passes that agree."""
    where = None
    if torch.is_autocast_enabled(device):
        where = "under autocast"
    elif any(t.element_size() < 4 for t in (*model.parameters(), *grads)):
        where = "with weights or gradients below fp32"
    elif any(isinstance(m, _DropoutNd) and m.training and m.p > 0 for m in model.modules()):
        where = "with active dropout"
    if where:
        raise ValueError(f'a difference of two gradients is noise {where}; use implementation="autograd"')


def _vector(tensors) -> torch.Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])
