"""Descent on a loss with two weights, by the steps that every run takes: micro-batches, penalty, transforms, SGD.

The network f(x) = w₁ w₂ x has one weight in each of two layers. Over micro-batches B of points (x, y), in float64,

    L(w) = mean_B L_B(w),    L_B(w) = ½ mean over B of (w₁ w₂ x − y)²

is not convex. With a = mean x², b = mean x y and p = w₁ w₂ its minima are two valleys, p = b/a, on which the largest
eigenvalue of the Hessian is a (w₁² + w₂²): least where |w₁| = |w₂|, and as large as one likes far from there. What y
has beside b/a · x no weights can fit, so the micro-batches disagree in the valleys, too.
"""

from collections.abc import Mapping

import numpy as np
import torch

from whysgd.data.micro_batches import epoch_micro_batches, step_range
from whysgd.study.length import steps_per_epoch, total_steps
from whysgd.study.spec import RunSpec
from whysgd.study.trajectories import COLUMNS, specs_of
from whysgd.training.averaging import micro_batch_weights
from whysgd.training.engine import Engine, Step
from whysgd.training.objective import Objective
from whysgd.training.optimizers import optimizer_of
from whysgd.training.penalties import penalty_of
from whysgd.training.transforms import Context, transformed, transforms_of


class TwoWeights(Objective):
    """L_B(w) of K micro-batches of points: x (K, n) in place of images, y (K, n) of labels; w is (K, 2)."""

    def __init__(self):
        self.model, self.dtype = None, None

    def forward(self, theta: torch.Tensor, images: torch.Tensor):
        """Return f(x) (K, n), and no statistics (K, 0)."""
        return theta.prod(-1)[:, None] * images, theta.new_zeros(len(theta), 0)

    def mean_losses(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return half the mean squared residual (K,)."""
        return (logits - labels).square().mean(1) / 2


def descend(spec: RunSpec, points: np.ndarray, start: tuple[float, float]) -> torch.Tensor:
    """Return the weights of a run, step by step.

    Args:
        spec: one of `specs_of`.
        points: (n, 2) of x and y.
        start: w₁ and w₂ before the first step.

    Returns:
        (T + 1, 2) for T steps, float64; not finite from where they overflow.
    """
    x, y = torch.as_tensor(np.asarray(points, dtype=np.float64)).T
    theta = torch.tensor([start], dtype=torch.float64)
    engine = Engine(TwoWeights(), penalty_of(spec.penalty) if spec.penalty else None, most=len(x))
    state, path, transforms, optimizer = {}, [theta[0].clone()], transforms_of(spec), optimizer_of(spec)
    in_epoch = steps_per_epoch(spec, len(x))
    for number in range(total_steps(spec, len(x))):
        micro_batches = epoch_micro_batches(spec, len(x), number // in_epoch)
        first, end = step_range(spec, len(micro_batches), number % in_epoch)
        chosen = np.stack(micro_batches[first:end])[None]
        weights = micro_batch_weights(end - first, spec.averaging, torch.float64)
        step = Step(theta, weights, lr=spec.lr)
        gradient = engine.sums(step, [(x[chosen], y[chosen])]).gradient
        context = Context(gradient.norm(dim=1), theta=theta, seeds=[spec.seed], step=number)
        gradient = transformed(transforms, gradient, context)
        optimizer(theta, state, gradient, spec.lr)
        path.append(theta[0].clone())
    return torch.stack(path)


def losses(weights: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return L (…) at weights (…, 2)."""
    a, b, c = _moments(points)
    p = weights.prod(-1)
    return (a * p**2 - 2 * b * p + c) / 2


def gradients(weights: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return ∇L (…, 2) at weights (…, 2)."""
    a, b, _ = _moments(points)
    return (a * weights.prod(-1) - b)[..., None] * weights[..., ::-1]


def sharpness(weights: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return the largest eigenvalue (…) of ∇²L: a w₂² and a w₁² on its diagonal, and 2 a w₁ w₂ − b beside it."""
    a, b, _ = _moments(points)
    first, second = a * weights[..., 1] ** 2, a * weights[..., 0] ** 2
    return (first + second) / 2 + np.hypot((first - second) / 2, 2 * a * weights.prod(-1) - b)


def valley(points: np.ndarray) -> float:
    """Return b/a, the product of the two weights at every minimum."""
    a, b, _ = _moments(points)
    return b / a


def _moments(points: np.ndarray) -> tuple[float, float, float]:
    """Return the means of x², x y and y²."""
    x, y = np.asarray(points, dtype=np.float64).T
    return float((x * x).mean()), float((x * y).mean()), float((y * y).mean())


def trajectories(settings: Mapping) -> list[dict]:
    """Return where each method is after each step, with L, ‖∇L‖ and the sharpness there.

    Args:
        settings: `trajectories` of a paper, validated.

    Returns:
        a line with `COLUMNS` for each method, seed and step; step 0 is the start.
    """
    points, lines = np.asarray(settings["points"], dtype=np.float64), []
    for name, specs in specs_of(settings).items():
        for spec in specs:
            path = descend(spec, points, settings["start"]).numpy()
            found = (losses(path, points), np.linalg.norm(gradients(path, points), axis=-1), sharpness(path, points))
            for step, (weights, *values) in enumerate(zip(path, *found, strict=True)):
                lines.append(dict(zip(COLUMNS, (name, spec.seed, step, *weights, *values), strict=True)))
    return lines
