"""Optimizers against torch.optim, or written out plainly, on a loss that is computed micro-batch by micro-batch."""

import copy

import pytest
import torch
from conftest import make_dataset, make_spec, one_line
from test_loop import assert_continues, plain_batches
from torch.nn import functional as F

from whysgd.models.build import build_model
from whysgd.study.registry import make
from whysgd.training.loop import Trainer
from whysgd.training.optimizers import decay_term
from whysgd.training.optimizers.sgd import sgd

LR = 0.3
PLAIN = {"augment": None, "penalty": None, "clip": None, "momentum": 0.0, "nesterov": False, "weight_decay": 0.0,
         "schedule": make("schedule", "constant", unit="step"), "epochs": 14, "lr": LR}  # fmt: skip
MOMENTUM = {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01}


@pytest.mark.parametrize("dampening", [0.0, 0.3])
@pytest.mark.parametrize("decay", [0.0, 5e-4])
@pytest.mark.parametrize(("momentum", "nesterov"), [(0.9, True), (0.9, False), (0.0, False)])
def test_sgd_is_torchs_to_the_bit_for_each_seed(momentum, nesterov, decay, dampening):
    options = {"momentum": momentum, "nesterov": nesterov, "weight_decay": decay, "dampening": dampening}
    if nesterov and dampening:
        with pytest.raises(ValueError, match=r"dampening = 0.3: must be 0 with Nesterov"):
            make("optimizer", "sgd", **options)
        return
    theta, state = torch.randn(3, 50), {}
    peers = [torch.nn.Parameter(row.clone()) for row in theta]
    theirs = torch.optim.SGD(peers, lr=1.0, **options, foreach=False)
    for step in range(5):
        gradient = torch.randn(3, 50)
        for row, peer in zip(gradient, peers, strict=True):
            peer.grad = row.clone()
        theirs.param_groups[0]["lr"] = 0.1 * step
        sgd(theta, state, gradient, 0.1 * step, make("optimizer", "sgd", **options))
        theirs.step()
        assert torch.equal(theta, torch.stack([peer.data for peer in peers]))
    assert set(state) == ({"momentum"} if momentum else set())


class Peer:
    """A seed's network in plain torch, and the mean over micro-batches, the last of them smaller, of the mean loss."""

    def __init__(self, spec, dataset):
        self.model = build_model(spec.model, dataset.train.images.shape[1], 3, spec.seed).double()
        self.spec, self.parameters, self.step = spec, list(self.model.parameters()), 0
        self.images = torch.from_numpy(dataset.train.images).double().div(255).sub(0.4).div(0.2)
        self.labels = torch.from_numpy(dataset.train.labels)
        self.recent, self.vector = [], torch.nn.utils.parameters_to_vector

    def closure(self):
        for parameter in self.parameters:
            parameter.grad = None
        total, batches = 0.0, plain_batches(self.spec, len(self.labels), self.step)
        for places in batches:
            loss = F.cross_entropy(self.model.train()(self.images[places]), self.labels[places]) / len(batches)
            loss.backward()
            total += loss.item()
        return total

    @property
    def theta(self):
        return self.vector(self.parameters).detach().clone()

    @property
    def gradient(self):
        return torch.cat([parameter.grad.flatten() for parameter in self.parameters]).clone()

    def put(self, theta=None, gradient=None):
        if theta is not None:
            torch.nn.utils.vector_to_parameters(theta, self.parameters)
        if gradient is not None:
            parts = gradient.split([parameter.numel() for parameter in self.parameters])
            for parameter, part in zip(self.parameters, parts, strict=True):
                parameter.grad = part.view_as(parameter).clone()


def torchs(kind, **options):
    """A step of a class of torch.optim, which keeps its own state."""

    def step(peer):
        peer.optimizer = getattr(peer, "optimizer", None) or kind(peer.parameters, lr=LR, **options)
        peer.optimizer.step(peer.closure)

    return step


plain_sgd = torchs(torch.optim.SGD, **MOMENTUM)


def sgd_with_gradient(peer):
    """A step of SGD with the gradients that the parameters have."""
    closure, peer.closure = peer.closure, lambda: 0.0
    plain_sgd(peer)
    peer.closure = closure


def plain_sam(peer):
    peer.closure()
    theta, gradient = peer.theta, peer.gradient
    peer.put(theta + 0.5 * gradient / (gradient.norm() + 1e-12))
    peer.closure()
    peer.put(theta)
    sgd_with_gradient(peer)


def plain_lars(clip):
    def step(peer):
        peer.closure()
        sgd = torch.optim.SGD(peer.parameters, LR, momentum=0.9, nesterov=True)
        peer.optimizer = getattr(peer, "optimizer", None) or sgd
        for parameter in peer.parameters:
            w, g, rate = parameter.detach().norm(), parameter.grad.norm(), 1
            if w > 0 and g > 0:
                rate = 0.02 * w / (g + 0.01 * w + 1e-8)
                rate = min(rate / LR, 1) if clip else rate
            parameter.grad = (parameter.grad + 0.01 * parameter.detach()) * rate
        peer.optimizer.step()

    return step


def plain_fista(peer):
    peer.closure()
    y = peer.theta
    x_before, t = getattr(peer, "sequence", (y, 1.0))
    x, t_after = y - LR * peer.gradient, (1 + (1 + 4 * t * t) ** 0.5) / 2
    peer.put(x + (t - 1) / t_after * (x - x_before))
    peer.sequence = x, t_after


def plain_clip_by_history(peer):
    peer.closure()
    norm = peer.gradient.norm()
    if len(peer.recent) >= 3 and norm > max(peer.recent[-3:]):
        limit = max(peer.recent[-3:])
        peer.put(gradient=peer.gradient * limit / (norm + 1e-6))
        norm, peer.happened = limit, True
    peer.recent.append(norm)
    sgd_with_gradient(peer)


def plain_restart(peer):
    loss = peer.closure()
    if len(peer.recent) >= 3 and loss >= max(peer.recent[-3:]):
        peer.optimizer.state.clear()
        peer.happened = True
    else:
        peer.recent.append(loss)
    sgd_with_gradient(peer)


def plain_non_monotone(peer):
    peer.recent.append(peer.closure())
    theta = peer.theta
    sgd_with_gradient(peer)
    length = peer.theta - theta
    for trial in range(1, 11 if len(peer.recent) >= 3 else 1):
        if peer.closure() < max(peer.recent[-3:]):
            break
        peer.put(theta + length * 0.25**trial)
        peer.happened = True


# Settings of an optimizer, its reference, and whether something of its own must have happened.
SETTINGS = {
    "AdamW": (make("optimizer", "torch.optim:AdamW", weight_decay=0.01), torchs(torch.optim.AdamW, weight_decay=0.01), False),
    "L-BFGS": (make("optimizer", "lbfgs", history=3),
               torchs(torch.optim.LBFGS, max_iter=1, history_size=3, line_search_fn="strong_wolfe"), False),
    "SAM": (make("optimizer", "sam", rho=0.5, **MOMENTUM), plain_sam, False),
    "LARS": (make("optimizer", "lars", **MOMENTUM), plain_lars(False), False),
    "LARC": (make("optimizer", "lars", clip=True, **MOMENTUM), plain_lars(True), False),
    "FISTA": (make("optimizer", "fista"), plain_fista, False),
    "clip by history": (make("optimizer", "clip_by_history", interval=3, **MOMENTUM), plain_clip_by_history, True),
    "restart": (make("optimizer", "restart", interval=3, **MOMENTUM), plain_restart, True),
    "non-monotone": (make("optimizer", "non_monotone", interval=3, **MOMENTUM), plain_non_monotone, True),
}  # fmt: skip


@pytest.mark.parametrize(("settings", "reference", "own"), SETTINGS.values(), ids=SETTINGS)
def test_each_seed_follows_the_reference_on_uneven_micro_batches(settings, reference, own):
    specs, data = [make_spec(**PLAIN, optimizer=settings, seed=seed) for seed in (0, 1)], make_dataset()
    trainer, peers = Trainer(specs, data, dtype=torch.float64), [Peer(spec, data) for spec in specs]
    starts = [peer.theta for peer in peers]
    for _ in range(trainer.total):
        trainer.step()
        for state, peer in zip(trainer.states, peers, strict=True):
            reference(peer)
            peer.step += 1
            torch.testing.assert_close(state.theta, peer.theta, rtol=1e-7, atol=1e-9)
    assert all((peer.theta - start).norm() > 0.01 for peer, start in zip(peers, starts, strict=True))
    assert not own or any(hasattr(peer, "happened") for peer in peers)


def test_a_wolfe_step_fulfils_the_strong_wolfe_conditions():
    wolfe, data = make("optimizer", "wolfe", weight_decay=0.1, momentum=0.5), make_dataset()
    specs = [make_spec(**PLAIN, optimizer=wolfe, seed=seed) for seed in (0, 1)]
    trainer, peers = Trainer(specs, data, dtype=torch.float64), [Peer(spec, data) for spec in specs]
    found = 0
    for _ in range(6):
        before = [state.theta.clone() for state in trainer.states]
        trainer.step()
        for start, state, peer in zip(before, trainer.states, peers, strict=True):
            values, slopes, step = [], [], state.theta - start
            for theta in (start, state.theta):
                peer.put(theta)
                values.append(peer.closure() + 0.05 * theta.square().sum())
                slopes.append((peer.gradient + 0.1 * theta) @ step)
            peer.step += 1
            assert slopes[0] < 0
            assert values[1] <= values[0] + 1e-4 * slopes[0]
            found += (abs(slopes[1]) <= 0.9 * abs(slopes[0])).item()
    assert found >= 10  # a search may run out of trials


def test_running_statistics_move_once_in_a_step():
    settings = [make("optimizer", "sgd"), make("optimizer", "sam", rho=0.5), make("optimizer", "wolfe")]
    trainers = [Trainer([make_spec(**PLAIN, optimizer=one)], make_dataset(), dtype=torch.float64) for one in settings]
    for trainer in trainers:
        trainer.step()
    assert len(trainers[0].states[0].running) > 0
    for trainer in trainers[1:]:
        assert torch.equal(trainer.states[0].running, trainers[0].states[0].running)
        assert not torch.equal(trainer.states[0].theta, trainers[0].states[0].theta)


def test_sam_clips_both_gradients_and_draws_the_same_for_both():
    """The penalty's labels are random: the same in both passes, and other ones in the next step."""
    changes = {"penalty": make("penalty", "fisher_trace", strength=0.1), "clip": 0.05, "batch": 10}
    spec = make_spec(**{**PLAIN, **changes}, optimizer=make("optimizer", "sam", rho=0.5))
    trainer = Trainer([spec], make_dataset(), dtype=torch.float64)
    start, found = trainer.states[0].theta.clone(), []
    at = trainer.gradient

    def spied(*arguments):
        found.append(at(*arguments)[0].clone())
        return found[-1], *at(*arguments)[1:]

    again = copy.deepcopy(trainer.states[0].running)
    trainer.gradient = spied
    trainer.step()
    first, second = found
    assert first.norm() > 0.05 < second.norm()
    torch.testing.assert_close(trainer.states[0].theta, start - LR * second[0] * 0.05 / (second.norm() + 1e-6))
    assert not torch.equal(trainer.states[0].running, again)


def test_weight_decay_spares_what_is_exempt():
    data = make_dataset()
    optimizer = make("optimizer", "sgd", weight_decay=0.1, momentum=0.9, exempt=["bias", "norm"])
    spec = make_spec(**PLAIN, optimizer=optimizer).replace(evaluations=1000)
    trainer, peer = Trainer([spec], data, dtype=torch.float64), Peer(spec, data)
    named = dict(peer.model.named_parameters())
    spared = [p for name, p in named.items() if "bias" in name or "norm" in name]
    others = [p for name, p in named.items() if not ("bias" in name or "norm" in name)]
    assert spared
    assert others
    groups = [{"params": spared, "weight_decay": 0.0}, {"params": others}]
    theirs = torch.optim.SGD(groups, lr=LR, momentum=0.9, weight_decay=0.1)
    for _ in range(4):
        trainer.step()
        theirs.step(peer.closure)
        peer.step += 1
    torch.testing.assert_close(trainer.states[0].theta, peer.theta)
    # The full loss has what is decayed, and no more.
    decayed = 0.05 * sum(p.square().sum().item() for p in others)
    line = trainer.step()
    assert line["full_loss"].item() == pytest.approx(line["step_loss"].item() + decayed, rel=1e-9)
    layout = trainer.objective.parameters
    assert decay_term(torch.ones(2, len(layout)), layout, 0.1, [""]).tolist() == [0, 0]  # all are exempt


def test_the_full_loss_is_the_same_whichever_way_weight_decay_is_written():
    named = [{"optimizer": make("optimizer", name, weight_decay=0.5)} for name in ("sgd", "torch.optim:AdamW")]
    ways = ({"weight_decay": 0.5}, *named)
    specs = [make_spec(**{**PLAIN, **way}).replace(evaluations=1000) for way in ways]
    plain, named, adamw = (Trainer([spec], make_dataset()).step() for spec in specs)
    assert plain["full_loss"] == named["full_loss"] > 1.5 * plain["step_loss"]
    assert adamw["full_loss"] == adamw["step_loss"]


def test_adaptive_clipping_is_that_of_nfnets():
    data = make_dataset()
    spec = make_spec(**PLAIN, transform=make("transform", "adaptive_clip"))
    trainer, peer = Trainer([spec], data, dtype=torch.float64), Peer(spec, data)
    clipped = 0
    for _ in range(3):
        trainer.step()
        peer.closure()
        for name, parameter in peer.model.named_parameters():
            w, g = parameter.detach(), parameter.grad
            units = [(...,)] if w.dim() < 2 else [(i,) for i in range(len(w))]
            for unit in [] if name.startswith("head") else units:
                most = 0.01 * max(w[unit].norm().item(), 1e-3)
                if g[unit].norm() > most:
                    g[unit] *= most / max(g[unit].norm().item(), 1e-6)
                    clipped += 1
        peer.put(peer.theta - LR * peer.gradient)
        peer.step += 1
    assert clipped
    torch.testing.assert_close(trainer.states[0].theta, peer.theta)


@pytest.mark.parametrize("name", ["lbfgs", "restart", "clip_by_history", "fista"])
def test_an_interrupted_run_continues_to_the_same_bits(data, tmp_path, monkeypatch, name):
    options = {} if name in ("lbfgs", "fista") else {"momentum": 0.9, "interval": 2}
    specs = [make_spec(**PLAIN, optimizer=make("optimizer", name, **options), seed=seed) for seed in (0, 1)]
    assert_continues(specs, data, tmp_path, monkeypatch, 6)


@pytest.mark.parametrize("name", ["lbfgs", "wolfe", "non_monotone", "restart"])
def test_what_compares_losses_is_refused_on_mini_batches_and_with_transforms(name):
    switch = {"switch": [{"at": 1, "unit": "epoch", "to": 5}]}
    transform = {"transform": make("transform", "normalize")}
    others = {"clip": 0.1}, {"micro_batch_clip": 0.1}, {"averaging": "historical"}
    for changes in ({"batch": 5}, transform, switch, *others):
        message = rf"test: optimizer = '{name}': compares losses; allowed only with batch: all"
        with one_line(message):
            Trainer([make_spec(**{**PLAIN, **changes}, optimizer=make("optimizer", name))], make_dataset())


def test_without_a_learning_rate_a_search_makes_no_step():
    schedule = make("schedule", "constant", unit="step", warmup=1)
    for name in ("lbfgs", "wolfe", "non_monotone"):
        spec = make_spec(**{**PLAIN, "schedule": schedule}, optimizer=make("optimizer", name))
        trainer = Trainer([spec], make_dataset())
        start = trainer.states[0].theta.clone()
        trainer.step()
        assert torch.equal(trainer.states[0].theta, start)
        trainer.step()
        assert not torch.equal(trainer.states[0].theta, start)
