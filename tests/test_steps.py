"""Options of steps, against a slow and obvious loop over images in float64."""

import pytest
import torch
from conftest import make_dataset, make_spec, with_seeds
from test_loop import assert_continues
from torch.nn import functional as F

from whysgd.data.augmentation import crop_and_flip, draw
from whysgd.models.build import build_model
from whysgd.streams import stream
from whysgd.study.length import epoch_at, total_steps
from whysgd.study.registry import make
from whysgd.training.loop import Options, Trainer

PLAIN = make_spec(penalty=None, clip=None, schedule=make("schedule", "constant", unit="step"), lr=0.1)


def gradient_of(trainer, row, images, labels, loss=F.cross_entropy):
    """The gradient (P,) of a seed's loss of images (n, C, H, W) uint8, by an nn.Module and autograd."""
    spec, objective = trainer.specs[row], trainer.objective
    model = build_model(spec.model, images.shape[1], trainer.classes, 0, images.shape[2]).double().train()
    with torch.no_grad():
        for name, value in objective.parameters.views(trainer.batch.theta[row]).items():
            model.get_parameter(name).copy_(value)
    value = loss(model(trainer.normalize(images)), labels)
    return torch.cat([part.flatten() for part in torch.autograd.grad(value, model.parameters())]).detach()


def micro_batches_of(trainer, row):
    """A seed's micro-batches of the next step, when a step is an epoch."""
    for images, labels in trainer.loader.groups(trainer.batch.step, 0, trainer.micro_batches):
        yield from zip(images[row % len(images)], labels[row % len(labels)], strict=True)


@pytest.mark.parametrize("norm", ["l2", "max"])
@pytest.mark.parametrize("together", [1, 10])
def test_each_micro_batch_is_clipped_and_those_are_counted(norm, together):
    spec = PLAIN.replace(micro_batch_clip=1.0 if norm == "l2" else 0.25, clip_norm=norm, evaluations=4)
    trainer = Trainer(with_seeds(spec, 3, 4), make_dataset(), Options(together=together), dtype=torch.float64)
    counted = 0
    for _ in range(4):
        expected, counts = torch.zeros_like(trainer.batch.theta), [0, 0]
        for row in range(2):
            batches = list(micro_batches_of(trainer, row))
            assert [len(labels) for _, labels in batches] == [5, 5, 5, 5, 3]
            for images, labels in batches:
                gradient = gradient_of(trainer, row, images, labels)
                size = float(gradient.norm() if norm == "l2" else gradient.abs().max())
                factor = spec.micro_batch_clip / (size + 1e-6) if size > spec.micro_batch_clip else 1.0
                counts[row] += factor < 1
                expected[row] += factor * gradient / 5
        found, _, _, clipped = trainer.gradient(trainer.batch.step, 0, 5, 0.1)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
        assert clipped.tolist() == counts
        trainer.after_step(trainer.step())
        assert [state.history[-1]["clipped_micro_batches"] for state in trainer.states] == counts
        counted += sum(counts)
    assert 0 < counted < 40


def test_the_gradient_that_a_penalty_needs_beforehand_is_clipped_too():
    penalty = make("penalty", "gradient_norm", block_strength=0.0, acc_strength=0.5, variant="exact")
    spec = PLAIN.replace(micro_batch_clip=0.7, penalty=penalty, seed=4)
    trainer = Trainer([spec], make_dataset(), dtype=torch.float64)
    gradients = [gradient_of(trainer, 0, *batch) for batch in micro_batches_of(trainer, 0)]
    full = torch.stack([g * min(1.0, 0.7 / (float(g.norm()) + 1e-6)) for g in gradients]).mean(0)
    assert float(full.norm()) < float(torch.stack(gradients).mean(0).norm())
    expected = torch.zeros_like(full)
    for images, labels in micro_batches_of(trainer, 0):
        theta = trainer.batch.theta[:1].clone().requires_grad_()
        inputs, own = trainer.normalize(images)[None], labels[None]
        _, gradient, _ = trainer.objective.gradients(theta, inputs, own, differentiable=True)
        (product,) = torch.autograd.grad(gradient, theta, 0.5 * full[None])
        regularized = (gradient + 3.0 / 4 * product)[0].detach()
        expected += regularized * min(1.0, 0.7 / (float(regularized.norm()) + 1e-6)) / 5
    torch.testing.assert_close(trainer.gradient(0, 0, 5, 3.0)[0][0], expected, rtol=1e-9, atol=1e-12)


SWITCHED = PLAIN.replace(batch=5, shuffle=False, epochs=6, evaluations=6)


@pytest.mark.parametrize(
    ("changes", "batches"),
    [
        ({"switch": [{"at": 2, "to": "all"}]}, [5] * 10 + [23] * 4),
        ({"switch": [{"at": 2, "to": "all"}, {"at": 4, "to": "micro_batch"}]}, [5] * 10 + [23] * 2 + [5] * 10),
        ({"batch": "all", "switch": [{"at": 3, "to": 10}]}, [23] * 3 + [10] * 9),
        # The second epoch is left after two of its five steps.
        ({"epochs": None, "steps": 9, "switch": [{"at": 7, "unit": "step", "to": "all"}]}, [5] * 7 + [23] * 2),
    ],
)
def test_a_run_switches_to_full_batch_and_back(changes, batches):
    spec, data = SWITCHED.replace(**changes), make_dataset()
    trainer = Trainer(with_seeds(spec, 3, 4), data, dtype=torch.float64)
    assert trainer.total == len(batches) == total_steps(spec, 23)
    place, epoch = 0, 0
    for step, batch in enumerate(batches):
        # A batch ends with its epoch; a switch begins a new one.
        if place and (place >= 23 or (step and batches[step - 1] != batch)):
            place, epoch = 0, epoch + 1
        numbers, draws = range(place, min(place + batch, 23)), [draw(spec.augment, 23, seed, epoch) for seed in (3, 4)]
        expected = torch.zeros_like(trainer.batch.theta)
        for row in range(2):
            own = torch.tensor(list(numbers))
            images = crop_and_flip(torch.from_numpy(data.train.images)[own], draws[row].take(own), 1)
            pieces = list(zip(images.split(5), torch.from_numpy(data.train.labels)[own].split(5), strict=True))
            expected[row] = torch.stack([gradient_of(trainer, row, *piece) for piece in pieces]).mean(0)
        place += batch
        before = trainer.batch.theta.clone()
        line = trainer.step()
        assert line["epoch"] == epoch + 1 == epoch_at(spec, 23, step) + 1
        torch.testing.assert_close(line["gradient_norm"], expected.norm(dim=1), rtol=1e-9, atol=0)
        assert not torch.equal(before, trainer.batch.theta)
        trainer.after_step(line)
    assert trainer.batch is None


def test_a_switched_run_that_is_interrupted_continues_to_the_same_bits(data, tmp_path, monkeypatch):
    assert_continues([SWITCHED.replace(switch=[{"at": 2, "to": "all"}])], data, tmp_path, monkeypatch, 9, 10, 11)


@pytest.mark.parametrize(
    ("switch", "why"),
    [
        ([{"at": 6, "to": "all"}], r"switch\[0\].at = 6: must be later than the one before, and before the run's end"),
        ([{"at": 3, "to": "all"}, {"at": 3, "to": 5}], r"switch\[1\].at = 3: must be later"),
        ([{"at": 3, "to": 7}], r"switch\[0\].to = 7: must be a multiple of the micro-batch, 5"),
    ],
)
def test_a_switch_that_cannot_be_is_refused(switch, why):
    with pytest.raises(ValueError, match=why):
        SWITCHED.replace(switch=switch)


def test_images_are_drawn_with_replacement_and_augmented_each_time():
    spec, data = PLAIN.replace(replacement=True), make_dataset()
    trainer = Trainer(with_seeds(spec, 3, 4), data)
    with pytest.raises(ValueError, match="replacement: needs shuffle"):
        spec.replace(shuffle=False)
    for epoch in (0, 5):
        groups = list(trainer.loader.groups(epoch, 0, 5))
        for row, seed in enumerate((3, 4)):
            numbers = stream(seed, "order", epoch).integers(23, size=23)
            assert len(set(numbers)) < 23
            seen = torch.cat([images[row].flatten(0, 1) for images, _ in groups])
            draws, places = draw(spec.augment, 23, seed, epoch), torch.arange(23)
            expected = crop_and_flip(torch.from_numpy(data.train.images)[numbers], draws.take(places), 1)
            assert torch.equal(seen, expected)
            assert torch.equal(trainer.loader.take(epoch, [places.numpy()] * 2)[0][row], expected)
