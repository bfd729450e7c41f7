"""The loop against plain PyTorch, and what a batch of seeds leaves; `test_seeds.py` has what seeds do together."""

import csv
import math
import shutil
from contextlib import contextmanager

import pytest
import torch
from conftest import cropped, folder_of, make_dataset, make_spec, one_line
from filelock import FileLock
from safetensors.torch import load_file
from torch.nn import functional as F
from torchvision.transforms import functional as tv

from whysgd import GradRegularizer
from whysgd.data.augmentation import draw
from whysgd.models.build import build_model
from whysgd.results.metrics import read_metrics
from whysgd.streams import stream
from whysgd.study.length import trained_images
from whysgd.study.registry import make
from whysgd.study.spec import Normalization
from whysgd.training import loop
from whysgd.training import results as written
from whysgd.training.device import prepare_device
from whysgd.training.loop import Options, Trainer, train
from whysgd.training.schedules import learning_rate

TIMES = (
    "cpu_seconds", "peak_memory_mb", "seconds_per_step", "images_per_second", "sessions", "started", "ended", "sha256",
    "batch",  # which seeds were trained together
)  # fmt: skip


def run(specs, data, out, store=None, norms=(), **options):
    """Train one specification, or some seeds of one; returns the metrics of it, or of each."""
    several = isinstance(specs, list)
    metrics = train(specs if several else [specs], data, out, Options(**options), store, norms)
    return metrics if several else metrics[0]


def results(folder, seed=None):
    """What a run leaves, of all seeds or one, apart from what is another number each time."""
    metrics = [m for m in read_metrics(folder / "metrics.json") if seed in (None, m["seed"])]
    texts = {}
    for name in ("history.csv", "gradient_norms.csv", "noise.csv", "layers.csv", "noise_norms.csv"):
        lines = (folder / name).read_text().splitlines()
        texts[name] = [line for line in lines[1:] if seed is None or line.startswith(f"{seed},")]
    tensors = load_file(folder / "model.safetensors")
    tensors |= {f"{name}/best": tensor for name, tensor in load_file(folder / "best.safetensors").items()}
    own = {name: tensor for name, tensor in tensors.items() if seed is None or name.startswith(f"{seed}/")}
    return [{k: v for k, v in one.items() if k not in TIMES} for one in metrics], texts, own


def assert_equal_results(first, second):
    assert first[:2] == second[:2]
    assert first[2].keys() == second[2].keys()
    # Bytes, so that NaN equals itself.
    assert all(first[2][name].numpy().tobytes() == second[2][name].numpy().tobytes() for name in first[2])


@contextmanager
def dying_after(monkeypatch, steps):
    """Training is interrupted, as by Ctrl-C, after so many steps."""
    made, step = [], Trainer.step

    def dying_step(self):
        if len(made) == steps:
            raise KeyboardInterrupt
        made.append(1)
        return step(self)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", dying_step)
        with pytest.raises(KeyboardInterrupt):
            yield


def assert_continues(specs, data, folder, monkeypatch, *stops, norms=()):
    """Whenever training is interrupted, it continues and ends with the bits of training that is not; returns these."""
    run(specs, data, folder / "whole", norms=norms)
    whole = results(folder / "whole")
    for stop in stops:
        cut = folder / f"cut-{stop}"
        with dying_after(monkeypatch, stop):
            run(specs, data, cut, norms=norms, checkpoint_seconds=1e-9)
        assert not (cut / "metrics.json").exists()
        assert {metrics["sessions"] for metrics in run([*specs], data, cut, norms=norms)} == {2}
        assert_equal_results(whole, results(cut))
        assert not list(cut.glob("*checkpoint*"))
    return whole


def plain_rate(schedule, lr, t):
    """Warmup from zero, then a cosine whose clock starts at the first time after it, or the peak."""
    if t < schedule.warmup:
        return lr * t / schedule.warmup
    late = max(0, t - math.floor(schedule.warmup) - 1) if schedule.warmup else t
    return lr * (1 + math.cos(math.pi * min(1, late / getattr(schedule, "horizon", math.inf)))) / 2


def plain_batches(spec, images, epoch):
    """The epoch's micro-batches: cut from the data set's order or the epoch's permutation."""
    order = list(range(images))
    if spec.shuffle:
        order = stream(spec.seed, "order", epoch).permutation(images).tolist()
    blocks = [order[i : i + spec.micro_batch] for i in range(0, images, spec.micro_batch)]
    return [block for block in blocks if len(block) == spec.micro_batch] if spec.drop_last else blocks


def shown(dataset, spec, draws, number):
    """A training image as an epoch's draws show it, if there are any, by torchvision."""
    image, statistics = torch.from_numpy(dataset.train.images[number]), dataset.manifest
    if draws:
        image = cropped(image, spec.augment.crop_padding, draws.top[number], draws.left[number], draws.flip[number])
    if spec.normalize:
        statistics = dict(spec.normalize)
    return tv.normalize(image.double() / 255, statistics["mean"], statistics["std"])


def regularized(spec, model, optimizer, step, batches, gradients, average):
    """A step's gradient under geiping2022's penalty."""
    own, total = spec.penalty, average(gradients)
    settings = own.block_strength, own.acc_strength, own.eps, own.variant
    gradreg = GradRegularizer(model, optimizer, F.cross_entropy, 2, *settings)
    return average([gradreg(g, x, y, total) for g, (x, y) in zip(gradients, batches, strict=True)])


def reference_run(spec, dataset, steps, penalized=regularized, length=None):
    """The same run in plain PyTorch: torch's optimizer, torchvision's augmentation, nn.Module.

    Args:
        penalized: the gradient of a step whose run has a penalty, a function as `regularized`.
        length: the norm that a step's gradient is given, a function of the step and the micro-batches' gradients.

    Returns:
        the state dict at the end, and the norm of each step's gradient before it is changed.
    """
    count = trained_images(spec, len(dataset.train.labels))
    labels = torch.from_numpy(dataset.train.labels[:count])
    model = build_model(spec.model, dataset.train.images.shape[1], len(dataset.manifest["classes"]), spec.seed).double()
    parameters, norms = list(model.parameters()), []
    own = {name: getattr(spec, name) for name in ("lr", "momentum", "nesterov", "weight_decay")}
    optimizer = torch.optim.SGD(parameters, **own)
    together = count if spec.full_batch else spec.batch // spec.micro_batch
    per_epoch = math.ceil(len(plain_batches(spec, count, 0)) / together)

    def average(gradients):
        total = [torch.zeros_like(p) for p in parameters]
        for i, grads in enumerate(gradients):
            share = 1 / (i + 1) if spec.averaging == "mean" else 1 / len(gradients)
            total = [t + (g - t) * share for t, g in zip(total, grads, strict=True)]
        return total

    for step in range(steps):
        epoch, within = divmod(step, per_epoch)
        draws = draw(spec.augment, count, spec.seed, epoch) if spec.augment else None
        time = epoch if spec.schedule.unit == "epoch" else step
        optimizer.param_groups[0]["lr"] = plain_rate(spec.schedule, spec.lr, time)
        blocks = plain_batches(spec, count, epoch)[within * together : (within + 1) * together]
        batches = [(torch.stack([shown(dataset, spec, draws, i) for i in block]), labels[block]) for block in blocks]
        before = [buffer.clone() for buffer in model.buffers()]
        gradients = [torch.autograd.grad(F.cross_entropy(model.train()(x), y), parameters) for x, y in batches]
        assert not any(map(torch.equal, before, model.buffers()))
        arguments = spec, model, optimizer, step, batches, gradients, average
        total = penalized(*arguments) if spec.penalty else average(gradients)
        norms.append(torch.nn.utils.get_total_norm(total).item())
        for p, g in zip(parameters, total, strict=True):
            p.grad = g if length is None else g * length(step, gradients) / norms[-1]
        if spec.clip is not None:
            torch.nn.utils.clip_grad_norm_(parameters, spec.clip)
        optimizer.step()
    return model.state_dict(), norms


EXACT = make("penalty", "gradient_norm", variant="exact")
FULL = make("penalty", "gradient_norm", block_strength=0.5, acc_strength=0.4, variant="exact")
IN_STEPS = make("schedule", "cosine", unit="step", warmup=4, horizon=20.0)
OWN = Normalization(mean=(0.3,), std=(0.7,))
RUNS = {
    "one micro-batch": make_spec(batch=5, penalty=None, clip=None),
    "full batch": make_spec(penalty=None, clip=None),
    "macro-batch": make_spec(batch=10, penalty=None, drop_last=True, nesterov=False),
    "no momentum": make_spec(penalty=None, clip=None, momentum=0.0, nesterov=False, weight_decay=0.0),
    "clipped": make_spec(penalty=None, clip=0.05),
    "exact penalty": make_spec(penalty=EXACT),
    "published penalty": make_spec(shuffle=False),
    "full gradient in the penalty": make_spec(penalty=FULL),
    "historical average": make_spec(penalty=None, averaging="historical"),
    "schedule in steps": make_spec(batch=5, penalty=None, schedule=IN_STEPS),
    "no augmentation, normalization of its own": make_spec(penalty=None, augment=None, normalize=OWN),
}


@pytest.mark.parametrize("spec", RUNS.values(), ids=RUNS)
def test_ten_steps_of_two_seeds_equal_plain_pytorch(dataset, spec):
    # The forward difference divides a rounding error by ε, and ReLU kinks amplify it: fewer digits agree.
    tolerance = 1e-5 if spec.penalty and not spec.penalty.exact else 1e-9
    specs = [spec.replace(epochs=10, seed=seed) for seed in (3, 4)]
    references = [reference_run(one, dataset, 10) for one in specs]
    for together in (1, 5):
        trainer = Trainer(specs, dataset, Options(together=together), dtype=torch.float64)
        for _ in range(10):
            trainer.step()
        for (expected, norms), state in zip(references, trainer.states, strict=True):
            assert state.norms[:10].tolist() == pytest.approx(norms, rel=tolerance)
            # With the names of the tensors.
            torch.testing.assert_close(dict(trainer.tensors(state)), dict(expected), rtol=tolerance, atol=tolerance)


FAST = {"differences": (RUNS["published penalty"].penalty, "fp32", 2e-3), "exact": (EXACT, "fp32", 2e-3),
        "plain": (None, "fp32", 2e-3), "bf16": (None, "bf16", 0.2), "bf16, exact": (EXACT, "bf16", 0.2)}  # fmt: skip


@pytest.mark.parametrize(("penalty", "precision", "tolerance"), FAST.values(), ids=FAST)
def test_passes_follow_the_plain_loop_in_fp32_over_many_steps(dataset, penalty, precision, tolerance):
    decay = make("schedule", "cosine", unit="epoch", warmup=1.5, horizon=40.0)  # the rate is 0 in step 0 alone
    spec = make_spec(epochs=30, micro_batch=4, penalty=penalty, schedule=decay)
    plain = Trainer([spec], dataset, Options(together=1))
    fast = Trainer([spec.replace(precision=precision)], dataset)
    for step in range(30):
        # Synchronized before each step: what is compared is one step, not chaos.
        for name in ("theta", "running"):
            getattr(fast.batch, name).copy_(getattr(plain.batch, name))
        fast.batch.optimizer = {name: tensor.clone() for name, tensor in plain.batch.optimizer.items()}
        before = plain.batch.theta.clone()
        fast.step(), plain.step()
        moved = (plain.batch.theta - before).norm()
        difference = (fast.batch.theta - plain.batch.theta).norm()
        assert difference <= tolerance * moved + 1e-9, (step, difference / moved)


@pytest.mark.parametrize(
    "spec",
    [make_spec(epochs=6), make_spec(epochs=3, batch=5, penalty=None),
     make_spec(epochs=6, momentum=0.0, nesterov=False, weight_decay=0.0, optimizer=make("optimizer", "torch.optim:Adam"))],
    ids=["full batch", "sgd", "adam"],
)  # fmt: skip
def test_an_interrupted_run_continues_to_the_same_bits(data, tmp_path, monkeypatch, spec):
    assert_continues([spec], data, tmp_path, monkeypatch, 1, 2, 5)


CONSTANT = make("schedule", "constant", unit="epoch", warmup=0)
DIVERGING = make_spec(epochs=6, lr=1e30, clip=None, penalty=None, schedule=CONSTANT)


def test_a_diverged_run_is_a_result_and_diverges_again_if_it_is_killed_before_its_end(data, tmp_path, monkeypatch):
    metrics = run(DIVERGING, data, tmp_path / "whole")
    assert (metrics["status"], metrics["final"]["test_loss"]) == ("diverged", None)
    assert metrics["steps"] < 6
    assert 0 <= metrics["final"]["test_accuracy"] <= 100
    assert read_metrics(tmp_path / "whole/metrics.json") == [metrics]
    monkeypatch.setattr(loop, "write_results", lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(DIVERGING, data, tmp_path / "cut", checkpoint_seconds=1e-9)
    monkeypatch.undo()
    assert run(DIVERGING, data, tmp_path / "cut")["status"] == "diverged"
    assert_equal_results(results(tmp_path / "whole"), results(tmp_path / "cut"))


@pytest.mark.parametrize("name", ["write_atomically", "write_text", "write_json", "remove_checkpoint"])
def test_a_run_killed_while_it_writes_its_results_ends_with_the_same_bits(data, whole, tmp_path, monkeypatch, name):
    spec = make_spec()
    monkeypatch.setattr(loop if name == "remove_checkpoint" else written, name, lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(spec, data, tmp_path / "cut", checkpoint_seconds=1e-9)
    monkeypatch.undo()
    run(spec, data, tmp_path / "cut")
    assert_equal_results(results(whole), results(tmp_path / "cut"))


def test_a_finished_run_is_not_trained_again(data, whole, tmp_path, monkeypatch, capsys):
    spec = make_spec()
    shutil.copytree(whole, tmp_path / "run")
    monkeypatch.setattr(Trainer, "step", lambda self: 1 / 0)
    assert [run(spec, data, tmp_path / "run")] == read_metrics(whole / "metrics.json")
    assert "finished already" in capsys.readouterr().err
    with pytest.raises(ZeroDivisionError):
        run(spec.replace(lr=0.1), data, tmp_path / "run")


def test_data_that_are_not_there_are_named(tmp_path):
    with one_line("make one with `whysgd build-dataset gone`"):
        run(make_spec(), tmp_path / "gone", tmp_path / "run")


def test_a_micro_batch_of_one_value_per_channel_is_refused(tmp_path):
    data = folder_of(make_dataset(train=21), tmp_path / "data")
    with one_line("a micro-batch of one image is too small for batch norm; use drop_last"):
        run(make_spec(model="resnet18_half"), data, tmp_path / "run")


def test_the_device_is_prepared(monkeypatch):
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    assert prepare_device("cpu", 1) == torch.device("cpu")
    assert torch.get_num_threads() == 1
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert prepare_device("auto", 1) == torch.device("cpu")
    with one_line("device = cuda: there is no GPU that torch can use; allowed: auto, cpu"):
        prepare_device("cuda", 1)


def test_progress_is_sparse_lines_in_a_log(data, tmp_path, capsys):
    run(make_spec(), data, tmp_path / "run")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "geiping2022/test seed 3: 4 steps"
    assert len(lines) == 5
    assert "step 4/4" in lines[4]
    assert "0 s left" in lines[4]


def test_the_history_says_what_happened(dataset):
    spec = make_spec(epochs=8, evaluations=8)
    trainer = Trainer([spec], dataset, dtype=torch.float64)
    for _ in range(2):
        trainer.step()
    theta = trainer.states[0].theta.clone()
    row = trainer.evaluate(trainer.step(), 0)
    lr = learning_rate(spec.schedule, spec.lr, 2)
    assert (row["step"], row["epoch"], row["lr"]) == (3, 3, lr)
    # Full loss: mean micro-batch loss + ½ wd ‖θ‖² + (η/4) block_strength mean ‖g_B‖², at the weights before the step.
    total, squares, gradients = 0.0, 0.0, []
    loader = Trainer([spec], dataset, Options(together=1)).loader
    for images, labels in loader.groups(2, 0, trainer.micro_batches):
        losses, g, _ = trainer.objective.gradients(theta[None], trainer.normalize(images[0]), labels[0])
        total += losses[0].item() / trainer.micro_batches
        squares += g.square().sum().item() / trainer.micro_batches
        gradients.append(g)
    assert row["step_loss"] == pytest.approx(total)
    full = total + 0.5 * 5e-4 * theta.square().sum().item() + lr / 4 * 0.5 * squares
    assert row["full_loss"] == pytest.approx(full)
    assert row["clipped"] == int(row["gradient_norm"] > spec.clip)
    assert row["parameter_norm"] == pytest.approx(trainer.states[0].theta.norm().item())


def test_clipping_is_logged_with_the_norm_before_it(dataset):
    norms = {}
    for clip in (None, 1e-3, 1e3):
        trainer = Trainer([make_spec(clip=clip, penalty=None)], dataset)
        trainer.step()
        row = trainer.evaluate(trainer.step(), 0)
        norms[clip] = row["gradient_norm"]
        assert row["clipped"] == (1 if clip == 1e-3 else 0)
    assert norms[None] == norms[1e-3] == norms[1e3] > 1e-3


def test_evaluations_are_evenly_spaced_and_include_the_last_step(dataset):
    assert Trainer([make_spec(epochs=10, evaluations=4)], dataset).evaluation_steps == {2, 5, 8, 10}
    assert Trainer([make_spec(epochs=3, evaluations=20)], dataset).evaluation_steps == {1, 2, 3}


def test_metrics_and_history_agree(dataset, whole):
    (metrics,) = read_metrics(whole / "metrics.json")
    rows = list(csv.DictReader((whole / "history.csv").open()))
    assert [int(row["step"]) for row in rows] == [1, 2, 3, 4]
    assert float(rows[-1]["test_accuracy"]) == metrics["final"]["test_accuracy"]
    assert max(float(row["test_accuracy"]) for row in rows) == metrics["best"]["test_accuracy"]
    assert metrics["settings"] == make_spec().to_dict()
    assert metrics["data"]["sha256"] == dataset.manifest["sha256"]
    assert metrics["seconds_per_step"] > 0
    assert metrics["images_per_second"] == pytest.approx(23 / metrics["seconds_per_step"])


def test_the_saved_model_has_the_measured_accuracy(dataset, whole):
    (metrics,) = read_metrics(whole / "metrics.json")
    model = build_model("resnet_mini", 1, 3, seed=99)
    weights = load_file(whole / "model.safetensors")
    model.load_state_dict({name.removeprefix("3/"): tensor for name, tensor in weights.items()})
    images = torch.from_numpy(dataset.test.images).float()
    logits = model.eval()((images / 255 - 0.4) / 0.2)
    labels = torch.from_numpy(dataset.test.labels)
    assert metrics["final"]["test_accuracy"] == pytest.approx((logits.argmax(1) == labels).double().mean().item() * 100)
    assert metrics["final"]["test_loss"] == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-4)
    # Batch norm counts the micro-batches it has seen: 4 epochs of 5.
    assert int(model.stem[1].num_batches_tracked) == 20


def test_two_processes_never_train_in_one_folder(data, tmp_path):
    (tmp_path / "run").mkdir()
    with FileLock(tmp_path / "run/.lock"), one_line("another process is training in this folder"):
        run(make_spec(), data, tmp_path / "run")
