"""L-BFGS."""

from whysgd.study.settings import Count, MethodSettings
from whysgd.training.optimizers import Losses

LABEL = "L-BFGS"
# What torch's keeps: one for each pair, vectors of length P, and numbers.
_LISTS, _VECTORS = ("old_dirs", "old_stps", "ro"), ("d", "prev_flat_grad")
_NUMBERS = ("t", "H_diag", "prev_loss", "n_iter")


class LBFGSSettings(MethodSettings):
    """One iteration of torch.optim.LBFGS with its strong-Wolfe line search, which begins at the learning rate."""

    history: Count = 10
    """Pairs of steps and differences of gradients that are kept."""


def lbfgs(theta, state: dict, gradient, lr: float, settings: LBFGSSettings, losses: Losses) -> None:
    """Make a step of torch.optim.LBFGS of each seed on its own; none at lr = 0.

    Source: Nocedal and Wright 2006, algorithm 7.5. geiping2022's code damps the updates; torch's skips those of no
    positive curvature.
    """
    import torch

    packed = []
    for row in range(len(theta) if lr else 0):
        parameter = torch.nn.Parameter(theta[row].clone())
        optimizer = torch.optim.LBFGS(
            [parameter], lr, max_iter=1, history_size=settings.history, line_search_fn="strong_wolfe"
        )
        known, own = [(losses.now[row], gradient[row])], optimizer.state[parameter]
        if state and state["n_iter"][row]:
            own |= {name: state[name][row].clone() for name in (*_VECTORS, *_NUMBERS)}
            own |= {name: list(state[name][row][: int(state["pairs"][row])].clone()) for name in _LISTS}
            own |= {"al": [None] * settings.history, "n_iter": int(own["n_iter"]), "func_evals": 0}

        def closure(parameter=parameter, known=known, rows=slice(row, row + 1)):
            there = parameter.detach()[None]
            loss, parameter.grad = known.pop() if known else (one[0] for one in losses.at(there, rows))
            return loss

        optimizer.step(closure)
        theta[row] = parameter.detach()
        zeros = {name: torch.zeros_like(parameter.detach()) for name in _VECTORS} | dict.fromkeys(_NUMBERS, 0.0)
        kept = {name: torch.as_tensor(own.get(name, zeros[name]), dtype=theta.dtype) for name in zeros}
        kept["pairs"] = torch.tensor(len(own.get("ro", ())))
        for name in _LISTS:
            kept[name] = theta.new_zeros(settings.history, *(() if name == "ro" else theta.shape[1:]))
            for place, one in enumerate(own.get(name, ())):
                kept[name][place] = one
        packed.append(kept)
    state |= {name: torch.stack([kept[name] for kept in packed]) for name in (packed[0] if packed else ())}


lbfgs.full_batch = True
