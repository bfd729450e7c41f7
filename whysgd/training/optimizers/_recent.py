"""Some recent values of each seed, in an optimizer's state."""

from whysgd.study.settings import Count
from whysgd.training.optimizers.sgd import SGDSettings


class RecentSettings(SGDSettings):
    """SGD that looks back at its last steps."""

    interval: Count = 10
    """Steps that are looked back at."""


def recent(state: dict, like, interval: int):
    """Return the last values (seeds, interval); −∞ stands for those before the first step."""
    return state.get("recent", like.new_full((len(like), interval), float("-inf")))


def limit_of(values):
    """Return the largest value (seeds,), and ∞ as long as there are fewer than the interval has."""
    return values.max(1).values.where(values.min(1).values > float("-inf"), float("inf"))


def remember(state: dict, values, value, kept=None) -> None:
    """Put a value (seeds,) behind the others in the place of the oldest, where `kept` (seeds,) is true."""
    following = values.roll(-1, 1)
    following[:, -1] = value
    state["recent"] = following if kept is None else following.where(kept[:, None], values)
