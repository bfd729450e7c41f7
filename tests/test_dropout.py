"""Dropout against a slow, obvious generator, and the same in whatever shares a pass."""

import pytest
import torch
from conftest import folder_of, make_dataset, make_spec
from measured import gradient_of
from networks import theta_of
from test_loop import assert_continues
from test_seeds import assert_each_is_as_alone, seeds_of

from whysgd.models.build import build_model
from whysgd.models.layers import Dropout, dropout_keys
from whysgd.streams import stream
from whysgd.study.registry import make
from whysgd.study.spec import NoiseProbe, Probe
from whysgd.training import engine
from whysgd.training.engine import Engine, Step
from whysgd.training.loop import Trainer
from whysgd.training.objective import Objective

WORD = (1 << 64) - 1
SPEC = make_spec(
    model="alexnet_ch4", batch=15, micro_batch=5, epochs=3, penalty=None, clip=None, augment=None, lr=0.05, momentum=0.0,
    nesterov=False, weight_decay=0.0, schedule=make("schedule", "constant", unit="step", warmup=0), evaluations=3,
)  # fmt: skip
SETTINGS = {
    "plain": SPEC,
    "two passes": SPEC.replace(penalty=make("penalty", "gradient_norm", variant="central-differences")),
    "full gradient": SPEC.replace(penalty=make("penalty", "gradient_norm", acc_strength=0.4, variant="exact")),
    "sampled": SPEC.replace(penalty=make("penalty", "micro_batch_gradient_norm", strength=0.1, sample=4)),
    "graft": SPEC.replace(transform=make("transform", "iter_graft")),
    "probe": SPEC.replace(probe=Probe(every=1, micro_batch=3, micro_batches=4)),
}


def splitmix64(state):
    """SplitMix64's numbers one by one, as published."""
    while True:
        state = state + 0x9E3779B97F4A7C15 & WORD
        z = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & WORD
        z = (z ^ z >> 27) * 0x94D049BB133111EB & WORD
        yield z ^ z >> 31


def dropped(key, layer, n, features, p):
    """Which of a micro-batch's numbers are set to 0, (n, features)."""
    numbers = splitmix64((key + (layer << 40)) * 0x9E3779B97F4A7C15 & WORD)
    rows = [[(next(numbers) >> 33 & (1 << 31) - 1) < p * (1 << 31) for _ in range(features)] for _ in range(n)]
    return torch.tensor(rows)


@pytest.mark.parametrize("p", [0.5, 0.2])
def test_what_is_dropped_follows_from_key_layer_and_place(p):
    keys = torch.from_numpy(stream(0, "dropout", 3).integers(1 << 63, size=3))
    layer, x = Dropout(p, layer=1), torch.randn(5, 3, 7, dtype=torch.float64)
    with dropout_keys(keys):
        together = layer(x.flatten(1)).view(5, 3, 7)
    for k, key in enumerate(keys.tolist()):
        expected = x[:, k].masked_fill(dropped(key, 1, 5, 7, p), 0) / (1 - p)
        torch.testing.assert_close(together[:, k], expected, rtol=1e-14, atol=0)
        # A smaller micro-batch drops the same of the images that it has.
        with dropout_keys(keys[k : k + 1]):
            assert torch.equal(layer(x[:3, k]), together[:3, k])
    assert layer.eval()(x) is x


def test_shares_are_as_asked_and_keys_and_layers_differ():
    ones, keys = torch.ones(100, 4 * 1000), torch.arange(4)
    with dropout_keys(keys):
        first, second = (Dropout(0.3, layer)(ones).view(100, 4, 1000) == 0 for layer in (0, 1))
    for masks in (first, second):
        # Five standard errors.
        assert (masks.double().mean((0, 2)) - 0.3).abs().max() < 5 * (0.21 / 1e5) ** 0.5
    flat = torch.cat([first, second], 1).transpose(0, 1).flatten(1).double() - 0.3
    correlations = flat @ flat.T / flat.shape[1] / 0.21 - torch.eye(8)
    assert correlations.abs().max() < 5 * 1e5**-0.5


def test_training_without_keys_is_an_error():
    with pytest.raises(RuntimeError, match="needs keys"):
        build_model("alexnet_ch4", 1, 3, 0, 28)(torch.zeros(2, 1, 28, 28))


@pytest.mark.parametrize("spec", SETTINGS.values(), ids=SETTINGS)
def test_seeds_and_micro_batches_at_once_are_one_by_one(spec):
    assert_each_is_as_alone(seeds_of(spec, 2), make_dataset(33, size=28), [5], steps=4)


def test_a_step_is_plain_pytorch_with_its_masks():
    data, spec = make_dataset(20, size=28), SPEC.replace(shuffle=False, drop_last=True)
    trainer = Trainer([spec], data, dtype=torch.float64)
    model = build_model(spec.model, 1, 3, spec.seed, 28).double()
    parameters = list(model.parameters())
    features, hidden = model.head[1].in_features, model.head[1].out_features
    images = trainer.normalize(torch.from_numpy(data.train.images[:15])).unflatten(0, (3, 5))
    labels = torch.from_numpy(data.train.labels[:15]).unflatten(0, (3, 5))
    keys, total = stream(spec.seed, "dropout", 0).integers(1 << 63, size=3).tolist(), 0
    for key, x, y in zip(keys, images, labels, strict=True):
        masks = [2.0 * ~dropped(key, layer, 5, width, 0.5) for layer, width in enumerate((features, hidden))]
        out = model.head[1](model.features(x).flatten(1) * masks[0]).relu()
        logits = model.head[6](model.head[4](out * masks[1]).relu())
        total = total + torch.nn.functional.cross_entropy(logits, y) / 3
    gradient = torch.cat([g.flatten() for g in torch.autograd.grad(total, parameters)])
    before = trainer.states[0].theta.clone()
    trainer.step()
    torch.testing.assert_close(trainer.states[0].theta, before - spec.lr * gradient, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("together", "real"), [(1, False), (4, False), pytest.param(4, True, marks=pytest.mark.slow)])
def test_a_compiled_pass_drops_the_same(monkeypatch, together, real):
    if not real:
        monkeypatch.setattr(engine.torch, "compile", lambda traced, **options: traced)
    objective = Objective(build_model("alexnet_ch4", 1, 3, 0, 28).double())
    theta = theta_of(objective).expand(2, -1)
    groups = [(torch.randn(2, 2, 3, 1, 28, 28, dtype=torch.float64), torch.randint(0, 3, (2, 2, 3)))]
    for seed in range(2):
        # The second call takes what the first has traced.
        keys = torch.from_numpy(stream(seed, "dropout", 0).integers(1 << 63, size=(2, 2)))
        step = Step(theta, torch.ones(2, dtype=torch.float64), keys=keys)
        compiled, eager = (Engine(objective, most=together, compiled=on) for on in (True, False))
        torch.testing.assert_close(compiled.sums(step, groups).gradient, eager.sums(step, groups).gradient)


def test_the_noise_is_measured_without_dropout():
    data, spec = make_dataset(20, size=28), SPEC.replace(noise=NoiseProbe(points=1))
    trainer = Trainer([spec], data, dtype=torch.float64)
    trainer.record_noise()
    model = build_model(spec.model, 1, 3, spec.seed, 28).double()
    images = trainer.normalize(torch.from_numpy(data.train.images)).unflatten(0, (4, 5))
    labels = torch.from_numpy(data.train.labels).unflatten(0, (4, 5))
    gradients = torch.stack([gradient_of(model, x, y) for x, y in zip(images, labels, strict=True)])
    expected = (gradients - gradients.mean(0)).norm(dim=1)
    assert trainer.states[0].noise[0]["norms"]["train"] == pytest.approx(expected.tolist(), rel=1e-9)


def test_an_interrupted_run_continues_to_the_same_bits(tmp_path, monkeypatch):
    data = folder_of(make_dataset(33, size=28), tmp_path / "data")
    assert_continues(seeds_of(SPEC, 2), data, tmp_path, monkeypatch, 4)


class Dropping(torch.nn.Sequential):
    def __init__(self, num_classes):
        super().__init__(
            torch.nn.Flatten(), torch.nn.Dropout(0.5), torch.nn.Linear(48, 8), torch.nn.Dropout(0.25), torch.nn.Linear(8, num_classes)
        )  # fmt: skip


def test_dropout_of_a_network_from_elsewhere_has_the_runs_stream():
    model = build_model("test_dropout:Dropping", 3, 10, 0, 4)
    found = [module for module in model.modules() if isinstance(module, Dropout)]
    assert [(module.p, module.layer) for module in found] == [(0.5, 0), (0.25, 1)]
    assert not any(isinstance(module, torch.nn.Dropout) for module in model.modules())
