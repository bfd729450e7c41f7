"""Options of steps, against a slow and obvious loop over images in float64."""

import pytest
import torch
from conftest import make_dataset, make_spec
from torch.nn import functional as F

from whysgd.models.build import build_model
from whysgd.study.registry import make
from whysgd.training.loop import Options, Trainer

PLAIN = make_spec(penalty=None, clip=None, schedule=make("schedule", "constant", unit="step"), lr=0.1)


def gradient_of(trainer, row, images, labels, loss=F.cross_entropy):
    """The gradient (P,) of a seed's loss of images (n, C, H, W) uint8, by an nn.Module and autograd."""
    spec, objective = trainer.specs[row], trainer.objective
    model = build_model(spec.model, images.shape[1], trainer.classes, 0).double().train()
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
    trainer = Trainer(
        [spec.replace(seed=seed) for seed in (3, 4)], make_dataset(), Options(together=together), dtype=torch.float64
    )
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
        losses, gradient, _ = trainer.objective.gradients(theta, inputs, own, differentiable=True)
        (product,) = torch.autograd.grad(gradient, theta, 0.5 * full[None])
        regularized = (gradient + 3.0 / 4 * product)[0].detach()
        expected += regularized * min(1.0, 0.7 / (float(regularized.norm()) + 1e-6)) / 5
    torch.testing.assert_close(trainer.gradient(0, 0, 5, 3.0)[0][0], expected, rtol=1e-9, atol=1e-12)
