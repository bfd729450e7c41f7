"""FISTA without a proximal map, that is Nesterov's accelerated gradient descent."""

from whysgd.study.settings import MethodSettings, NotNegative

LABEL = "FISTA"


class FISTASettings(MethodSettings):
    """The sequence of FISTA-Mod; p = 1/50 and q = 1/10 are lazy."""

    p: NotNegative = 1.0
    """p of the sequence."""
    q: NotNegative = 1.0
    """q of the sequence."""
    r: NotNegative = 4.0
    """r of the sequence."""


def fista(theta, state: dict, gradient, lr: float, settings: FISTASettings) -> None:
    """Make one step; θ is the extrapolated point y.

        x⁺ = y − lr · g,   t⁺ = (p + √(q + r t²)) / 2,   y ← x⁺ + (t − 1)/t⁺ · (x⁺ − x),   at first t = 1 and x = y

    Source: Beck and Teboulle 2009; Liang and Schönlieb 2018 (arXiv 1807.04005) for p, q and r.
    """
    if not state:
        state |= {"x": theta.clone(), "t": theta.new_ones(len(theta))}
    x, t = theta - lr * gradient, state["t"]
    state["t"] = (settings.p + (settings.q + settings.r * t**2).sqrt()) / 2
    theta.copy_(x + ((t - 1) / state["t"])[:, None] * (x - state["x"]))
    state["x"] = x
