"""FISTA without a proximal map, that is Nesterov's accelerated gradient descent."""

from whysgd.study.settings import MethodSettings

LABEL = "FISTA"


def fista(theta, state: dict, gradient, lr: float, settings: MethodSettings) -> None:
    """Make one step; θ is the extrapolated point y.

        x⁺ = y − lr · g,   t⁺ = (1 + √(1 + 4t²)) / 2,   y ← x⁺ + (t − 1)/t⁺ · (x⁺ − x),   at first t = 1 and x = y

    Source: Beck and Teboulle 2009.
    """
    if not state:
        state |= {"x": theta.clone(), "t": theta.new_ones(len(theta))}
    x, t = theta - lr * gradient, state["t"]
    state["t"] = (1 + (1 + 4 * t**2).sqrt()) / 2
    theta.copy_(x + ((t - 1) / state["t"])[:, None] * (x - state["x"]))
    state["x"] = x
