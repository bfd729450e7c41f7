"""Gradient descent with a line search for the strong Wolfe conditions."""

from whysgd.training.optimizers import Losses
from whysgd.training.optimizers.sgd import SGDSettings, decayed, momentum_direction

# The shares of the slope of the two conditions, and losses in a step at most.
C1, C2, TRIALS = 1e-4, 0.9, 10


def wolfe(theta, state: dict, gradient, lr: float, settings: SGDSettings, layout, losses: Losses) -> None:
    """Make a step along SGD's direction, or against the gradient if that goes uphill, as long as the search says.

    φ(t) = L(θ + t d) + ½ weight_decay ‖θ + t d‖² falls by 1e-4 t |φ′(0)| at least, and |φ′(t)| ≤ 0.9 |φ′(0)|.

    Source: Nocedal and Wright 2006, algorithm 3.5, by the line search of torch.optim.LBFGS; geiping2022.
    """
    from torch.optim.lbfgs import _strong_wolfe

    g = decayed(gradient, theta, settings, layout)
    direction = -momentum_direction(state, g, settings)
    for row in range(len(theta) if lr else 0):
        own = slice(row, row + 1)

        def point(there, loss, gradient):
            """Return loss (a number) and gradient (P,) with weight decay."""
            decay = decayed(gradient.new_zeros(gradient.shape), there, settings, layout)
            return (loss + 0.5 * (decay * there).sum()).item(), (gradient + decay)[0]

        def along(x, t, d, own=own, point=point):
            there = (x + t * d)[None]
            return point(there, *losses.at(there, own))

        start, d = theta[row].clone(), direction[row] if direction[row] @ g[row] < 0 else -g[row]
        value, slope = point(theta[own], losses.now[own], gradient[own])[0], d @ g[row]
        *_, length, _ = _strong_wolfe(along, start, lr, d, value, g[row], slope, C1, C2, max_ls=TRIALS)
        theta[row] = start + length * d


wolfe.full_batch = True
