"""Descent on a loss with two weights, by the steps that every run takes: blocks, penalty, transforms, SGD.

The network f(x) = w₁ w₂ x has one weight in each of two layers. Over blocks B of points (x, y), in float64,

    L(w) = mean_B L_B(w),    L_B(w) = ½ mean over B of (w₁ w₂ x − y)²

is not convex. With a = mean x², b = mean x y and p = w₁ w₂ its minima are two valleys, p = b/a, on which the largest
eigenvalue of the Hessian is a (w₁² + w₂²): least where |w₁| = |w₂|, and as large as one likes far from there. What y
has beside b/a · x no weights can fit, so the blocks disagree in the valleys, too.
"""

from collections.abc import Mapping

import numpy as np
import torch

from whysgd.data.blocks import epoch_blocks, step_range
from whysgd.study.spec import RunSpec, steps_per_epoch, total_steps
from whysgd.study.trajectories import COLUMNS, specs_of
from whysgd.training.gradients import StackSums, step_gradient
from whysgd.training.objective import Objective
from whysgd.training.sgd import sgd_step
from whysgd.training.transforms import Context, transforms_of


class TwoWeights(Objective):
    """L_B(w) of k blocks of points: x (k, n) in place of images, y (k, n) of labels; w is (2,), or stacked (k, 2)."""

    def __init__(self):
        self.dtype, self.momentum = None, 0.0

    def losses(self, theta: torch.Tensor, images: torch.Tensor, labels: torch.Tensor):
        """Losses (k,), and no statistics (k, 0)."""
        residual = theta.prod(-1).unsqueeze(-1) * images - labels
        return residual.square().mean(1) / 2, theta.new_zeros(len(labels), 0)


def descend(spec: RunSpec, points: np.ndarray, start: tuple[float, float]) -> torch.Tensor:
    """The weights of a run, step by step.

    Args:
        spec: one of `specs_of`.
        points: (n, 2) of x and y.
        start: w₁ and w₂ before the first step.

    Returns:
        (T + 1, 2) for T steps, float64; not finite from where they overflow.
    """
    x, y = torch.as_tensor(np.asarray(points, dtype=np.float64)).T
    theta = torch.tensor(start, dtype=torch.float64)
    momentum, none, path = torch.zeros_like(theta), theta.new_zeros(0), [theta.clone()]
    sums, transforms = StackSums(TwoWeights(), spec.penalty), transforms_of(spec)
    in_epoch = steps_per_epoch(spec, len(x))
    for step in range(total_steps(spec, len(x))):
        blocks = epoch_blocks(spec, len(x), step // in_epoch)
        first, end = step_range(spec, len(blocks), step % in_epoch)
        chosen = np.stack(blocks[first:end])
        stack = (x[chosen], y[chosen])
        gradient = step_gradient(sums, theta, none, lambda stack=stack: [stack], end - first, spec.lr).gradient
        context = Context(gradient.norm(), step)
        for transform in transforms:
            gradient = transform(gradient, context)
        sgd_step(theta, momentum, gradient, spec.lr, spec.momentum, spec.nesterov, spec.weight_decay)
        path.append(theta.clone())
    return torch.stack(path)


def losses(weights: np.ndarray, points: np.ndarray) -> np.ndarray:
    """L (…) at weights (…, 2)."""
    a, b, c = _moments(points)
    p = weights.prod(-1)
    return (a * p**2 - 2 * b * p + c) / 2


def gradients(weights: np.ndarray, points: np.ndarray) -> np.ndarray:
    """∇L (…, 2) at weights (…, 2)."""
    a, b, _ = _moments(points)
    return (a * weights.prod(-1) - b)[..., None] * weights[..., ::-1]


def sharpness(weights: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The largest eigenvalue (…) of ∇²L, which has a w₂² and a w₁² on its diagonal and 2 a w₁ w₂ − b beside it."""
    a, b, _ = _moments(points)
    first, second = a * weights[..., 1] ** 2, a * weights[..., 0] ** 2
    return (first + second) / 2 + np.hypot((first - second) / 2, 2 * a * weights.prod(-1) - b)


def valley(points: np.ndarray) -> float:
    """b/a, the product of the two weights at every minimum."""
    a, b, _ = _moments(points)
    return b / a


def _moments(points: np.ndarray) -> tuple[float, float, float]:
    """Means of x², x y and y²."""
    x, y = np.asarray(points, dtype=np.float64).T
    return float((x * x).mean()), float((x * y).mean()), float((y * y).mean())


def trajectories(settings: Mapping) -> list[dict]:
    """Where each method is after each step, with L, ‖∇L‖ and the sharpness there.

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
