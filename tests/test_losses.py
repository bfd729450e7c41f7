"""What networks are trained with, and what of it history and measures have."""

from math import exp, log

import pytest
import torch
from conftest import make_dataset, make_spec, with_seeds
from test_steps import PLAIN, gradient_of
from torch.nn import functional as F

from whysgd.data.augmentation import crop_and_flip, draw
from whysgd.data.micro_batches import epoch_micro_batches
from whysgd.study.registry import make
from whysgd.study.spec import MAX_UP, NoiseProbe, Probe
from whysgd.training.dense import fits_dense
from whysgd.training.loop import Options, Trainer
from whysgd.training.losses import image_losses


def obvious(logits, label, smoothing=0.0):
    """Label-smoothed cross entropy of one image, in plain numbers."""
    total = log(sum(exp(x) for x in logits))
    weights = [1 - smoothing if c == label else smoothing / (len(logits) - 1) for c in range(len(logits))]
    return sum(w * (total - x) for w, x in zip(weights, logits, strict=True))


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.45])
@pytest.mark.parametrize("classes", [2, 3, 10])
def test_losses_of_images_are_those_of_the_formula(smoothing, classes):
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 20, classes, dtype=torch.float64), torch.randint(0, classes, (2, 20))
    pairs = zip(logits.flatten(0, 1).tolist(), labels.flatten().tolist(), strict=True)
    plain = torch.tensor([obvious(*pair, smoothing) for pair in pairs], dtype=torch.float64).view(2, 20)
    torch.testing.assert_close(image_losses(logits, labels, "cross_entropy", smoothing), plain, rtol=1e-12, atol=0)
    wrong = image_losses(logits, labels, "incorrect_cross_entropy", smoothing)
    largest = [[max(range(classes), key=f.__getitem__) for f in some] for some in logits.tolist()]
    right = torch.tensor(largest) == labels
    assert 0 < right.sum() < 40
    torch.testing.assert_close(wrong, torch.where(right, 0.0, plain), rtol=1e-12, atol=0)
    largest = image_losses(logits, labels, "max_up", smoothing)
    torch.testing.assert_close(largest, plain.view(2, 2, MAX_UP).max(2)[0], rtol=1e-12, atol=0)


def smoothed(logits, labels):
    return sum(_some(logits, labels, 0.2)) / len(labels)


def incorrect(logits, labels):
    losses = [one * (f.argmax() != y) for one, f, y in zip(_some(logits, labels, 0.0), logits, labels, strict=True)]
    return sum(losses) / len(labels)


def largest_of_ten(logits, labels):
    losses = torch.stack(_some(logits, labels, 0.0))
    return sum(losses[i : i + 10].max() for i in range(0, len(losses), 10)) / (len(losses) // 10)


def _some(logits, labels, smoothing):
    pairs, other = zip(logits.log_softmax(1), labels, strict=True), smoothing / (logits.shape[1] - 1)
    return [-(1 - smoothing) * log[y] - other * (log.sum() - log[y]) for log, y in pairs]


LOSSES = {
    "label smoothing": ({"label_smoothing": 0.2}, smoothed),
    "incorrect": ({"loss": "incorrect_cross_entropy"}, incorrect),
    "max-up": ({"loss": "max_up"}, largest_of_ten),
}


@pytest.mark.parametrize(("settings", "loss"), LOSSES.values(), ids=LOSSES)
@pytest.mark.parametrize("model", ["resnet_mini", "fc_d3_w8"])
@pytest.mark.parametrize("together", [1, 10])
def test_two_seeds_train_with_it_on_uneven_micro_batches(settings, loss, model, together):
    spec, data = PLAIN.replace(model=model, **settings), make_dataset()
    trainer = Trainer(with_seeds(spec, 3, 4), data, Options(together=together), dtype=torch.float64)
    assert not fits_dense(trainer.objective)
    images, labels = torch.from_numpy(data.train.images), torch.from_numpy(data.train.labels)
    repeats = MAX_UP if settings.get("loss") == "max_up" else 1
    for epoch in range(2):
        expected = torch.zeros_like(trainer.batch.theta)
        for row, seed in enumerate((3, 4)):
            draws = draw(spec.augment, 23 * repeats, seed, epoch)
            for own in epoch_micro_batches(trainer.specs[row], 23, epoch):
                copies = torch.tensor([repeats * number + copy for number in own for copy in range(repeats)])
                shown = crop_and_flip(images[copies // repeats], draws.take(copies), 1)
                expected[row] += gradient_of(trainer, row, shown, labels[copies // repeats], loss) / 5
        torch.testing.assert_close(trainer.gradient(epoch, 0, 5, 0.1)[0], expected, rtol=1e-9, atol=1e-12)
        trainer.after_step(trainer.step())


@pytest.mark.parametrize("settings", [settings for settings, _ in LOSSES.values()], ids=LOSSES)
def test_the_history_has_plain_cross_entropy(settings):
    data = make_dataset()
    trainer = Trainer([PLAIN.replace(evaluations=4, **settings)], data, dtype=torch.float64)
    trainer.after_step(trainer.step())
    [state], [line] = trainer.states, trainer.states[0].history
    logits = trainer.objective.logits(state.theta, state.running, trainer.normalize(torch.from_numpy(data.test.images)))
    expected = F.cross_entropy(logits, torch.from_numpy(data.test.labels)).item()
    assert line["test_loss"] == pytest.approx(expected, rel=1e-9)


def test_what_a_loss_does_not_go_with_is_refused():
    spec = make_spec(loss="max_up")
    fisher = make("penalty", "fisher_trace", strength=0.1)
    cases = [
        (spec, {"augment": None}, "max_up.*needs augment"),
        (spec, {"probe": Probe(every=1, micro_batch=2, micro_batches=2)}, "max_up.*cannot be given beside probe"),
        (spec, {"noise": NoiseProbe(points=1)}, "max_up.*cannot be given beside probe or noise"),
        (spec, {"penalty": fisher}, "fisher_trace.*needs the plain cross entropy"),
        (make_spec(penalty=fisher), {"label_smoothing": 0.1}, "fisher_trace.*needs the plain cross entropy"),
        (make_spec(loss="linear_hinge"), {"label_smoothing": 0.1}, "label_smoothing: is of cross entropy"),
        (make_spec(loss="linear_hinge"), {"test_time_flips": True}, "test_time_flips: has probabilities"),
    ]
    for before, changes, why in cases:
        with pytest.raises(ValueError, match=why):
            before.replace(**changes)
