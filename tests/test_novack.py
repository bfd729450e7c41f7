"""novack2023's runs on the loop: against plain PyTorch, selection, grafting, and a history that disturbs nothing."""

import copy
import csv
import json
from functools import partial

import numpy as np
import pytest
import torch
from conftest import ROOT, error_of, folder_of, make_dataset, make_spec, one_line, with_seeds
from safetensors.torch import load_file
from test_loop import assert_continues, reference_run, run, shown
from torch import nn
from torch.nn import functional as F

from whysgd.data.augmentation import draw
from whysgd.data.build_store import build_store
from whysgd.data.canonical import Dataset, Split, content_digest
from whysgd.measures.accuracy import evaluate, logits_at
from whysgd.measures.accuracy_gap import accuracy_gap
from whysgd.measures.run import load_runs
from whysgd.models.build import build_model
from whysgd.results.paths import BEST, NORMS
from whysgd.streams import stream
from whysgd.study.config import load_config
from whysgd.study.papers import scaled_spec
from whysgd.study.registry import make
from whysgd.study.spec import Probe, StoredCopies
from whysgd.training.checkpoint import HISTORY_COLUMNS
from whysgd.training.inputs import Inputs
from whysgd.training.loop import Options, Trainer
from whysgd.training.norm_log import norms_csv
from whysgd.training.penalties import penalty_of
from whysgd.training.sampling import probed_norms2

# 29 images, of which 23 are trained on: micro-batches of 5 (the last of 3), steps of 2 (the last of an epoch of 1).
STEPS = 8
CONSTANT = make("schedule", "constant", unit="step", warmup=0)


def novack_spec(**changes):
    plain = {"epochs": None, "momentum": 0.0, "nesterov": False, "weight_decay": 0.0, "penalty": None, "clip": None}
    own = {"paper": "novack2023", "batch": 10, "steps": STEPS, "lr": 0.3, "schedule": CONSTANT, "held_out": 0.2}
    return make_spec(**plain | own | {"evaluations": 4} | changes)


@pytest.fixture
def images():
    return make_dataset(29)


@pytest.fixture
def data(images, tmp_path):
    """The folder of the images."""
    return folder_of(images, tmp_path / "data")


def lines_of(folder, name="history.csv"):
    """The lines of a log that a run left."""
    with (folder / name).open(newline="") as file:
        return list(csv.DictReader(file))


def probe(every, micro_batch, micro_batches):
    return Probe(every=every, micro_batch=micro_batch, micro_batches=micro_batches)


def penalty(name, **settings):
    return make("penalty", name, strength=0.05, **settings)


REFERENCE_NORMS = np.linspace(0.5, 1.5, STEPS)
RUNS = {
    "SB": novack_spec(batch=5),
    "LB": novack_spec(),
    "GN": novack_spec(penalty=penalty("micro_batch_gradient_norm")),
    "FT": novack_spec(penalty=penalty("fisher_trace")),
    "AJ": novack_spec(penalty=penalty("average_jacobian")),
    "UJ": novack_spec(penalty=penalty("unit_jacobian")),
    "sampled GN": novack_spec(penalty=penalty("micro_batch_gradient_norm", sample=4)),
    "sampled FT": novack_spec(penalty=penalty("fisher_trace", sample=4)),
    "IterGraft": novack_spec(transform=make("transform", "iter_graft")),
    "ExterGraft": novack_spec(transform=make("transform", "exter_graft", reference="sb")),
    "NGD": novack_spec(transform=make("transform", "normalize")),
}


def trainer_of(spec, dataset, together=None):
    """A trainer of one seed in float64, with the norms that it grafts."""
    norms = REFERENCE_NORMS[None] if spec.reference else None
    return Trainer([spec], dataset, Options(together=together), Inputs(norms=norms), dtype=torch.float64)


def plain_penalty(model, name, x, y, noise):
    """λR_B of one micro-batch, differentiable, from its definition."""
    parameters, logits = list(model.parameters()), model(x)
    if name == "fisher_trace":
        rows = zip(logits.softmax(-1).tolist(), noise[: len(x)].tolist(), strict=True)
        y = torch.tensor([min(int(np.searchsorted(np.cumsum(p), u, "right")), len(p) - 1) for p, u in rows])
    score = {
        "micro_batch_gradient_norm": lambda: F.cross_entropy(logits, y),
        "fisher_trace": lambda: F.cross_entropy(logits, y),
        "average_jacobian": lambda: logits.mean(0).sum(),
        "unit_jacobian": lambda: logits.mean(0) @ noise,
    }[name]()
    return 0.05 * sum(g.square().sum() for g in torch.autograd.grad(score, parameters, create_graph=True))


def penalized(values, spec, model, optimizer, step, batches, gradients, average):
    """A step's gradient with λR, of each micro-batch or of one that is sampled; the penalty's value is appended."""
    images = spec.micro_batch
    if spec.penalty.sample:
        x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
        images = min(spec.penalty.sample, len(y))
        places = stream(spec.seed, "sample", step).choice(len(y), images, replace=False)
        batches = [(x[places], y[places])]
    draw_of = getattr(penalty_of(spec.penalty).func, "draw", None)
    random = stream(spec.seed, spec.penalty.name, step)
    noise = torch.from_numpy(draw_of(random, len(batches), images, 3)) if draw_of else [None] * len(batches)
    # Not a part of the step's passes: the running statistics do not move.
    model = copy.deepcopy(model)
    terms = [plain_penalty(model, spec.penalty.name, x, y, u) for (x, y), u in zip(batches, noise, strict=True)]
    values.append(sum(terms).item() / len(terms))
    added = [torch.autograd.grad(term, list(model.parameters()), materialize_grads=True) for term in terms]
    return [g + a for g, a in zip(average(gradients), average(added), strict=True)]


def grafted_norm(spec, step, gradients):
    """The norm that a step's gradient is given."""
    if spec.transform.name == "iter_graft":
        return nn.utils.get_total_norm(gradients[stream(spec.seed, "graft", step).integers(len(gradients))])
    return {"normalize": 1.0, "exter_graft": REFERENCE_NORMS[step]}[spec.transform.name]


def assert_equal_to_plain_pytorch(spec, dataset, tolerance, together=None):
    """All steps of a run, in float64: weights, running statistics, and each step's gradient norm and penalty."""
    trainer, values = trainer_of(spec, dataset, together), []
    lines = [trainer.step() for _ in range(spec.steps)]
    length = partial(grafted_norm, spec) if spec.transform else None
    expected, norms = reference_run(spec, dataset, spec.steps, partial(penalized, values), length)
    [state] = trainer.states
    torch.testing.assert_close(trainer.tensors(state), dict(expected), rtol=tolerance, atol=0.1 * tolerance)
    np.testing.assert_allclose(state.norms.numpy(), norms, rtol=1e-8)
    np.testing.assert_allclose([line["penalty"].item() for line in lines if spec.penalty], values, rtol=1e-8)


@pytest.mark.parametrize("spec", RUNS.values(), ids=RUNS.keys())
@pytest.mark.parametrize("together", [1, 3])
def test_steps_equal_plain_pytorch(images, spec, together):
    assert_equal_to_plain_pytorch(spec, images, 1e-8, together)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["resnet18_conv_half", "vgg11_half", "vgg16_bn_small_half"])
@pytest.mark.parametrize("name", ["GN", "FT", "AJ", "UJ"])
def test_steps_of_the_papers_networks_equal_plain_pytorch(model, name):
    spec = RUNS[name].replace(model=model, steps=3, lr=0.05)
    assert_equal_to_plain_pytorch(spec, make_dataset(29, channels=3, size=32), 1e-7)


@pytest.fixture
def log(tmp_path):
    """A log of the reference norms."""
    file = tmp_path / "norms.csv"
    file.write_text(norms_csv({3: REFERENCE_NORMS}))
    return file


@pytest.mark.parametrize("name", ["GN", "sampled FT", "IterGraft", "ExterGraft"])
def test_the_history_changes_no_bit_of_the_run(data, tmp_path, log, name):
    spec = RUNS[name]
    runs = {"off": spec.replace(evaluations=1), "on": spec.replace(evaluations=8, probe=probe(1, 3, 4))}
    for key, one in runs.items():
        run(one, data, tmp_path / key, norms=[log] if spec.reference else ())
    weights = {key: load_file(tmp_path / key / "model.safetensors") for key in runs}
    assert all(torch.equal(weights["off"][n], weights["on"][n]) for n in weights["off"])
    lines = {key: lines_of(tmp_path / key) for key in runs}
    assert [len(lines[key]) for key in ("off", "on")] == [1, 8]
    assert all(float(line["micro_batch_norm2"]) > 0 for line in lines["on"])
    assert lines["off"][0]["micro_batch_norm2"] == ""
    same = [c for c in HISTORY_COLUMNS if c != "micro_batch_norm2"]
    assert [lines["off"][0][c] for c in same] == [lines["on"][-1][c] for c in same]


def test_lines_of_the_probe_are_every_so_many_steps_and_have_accuracies_at_evaluations_only(data, tmp_path):
    spec = novack_spec(steps=9, evaluations=2, probe=probe(4, 5, 2), penalty=penalty("fisher_trace"))
    run(spec, data, tmp_path / "run")
    lines = lines_of(tmp_path / "run")
    assert [int(line["step"]) for line in lines] == [1, 4, 5, 9]
    assert [line["test_accuracy"] != "" for line in lines] == [False, True, False, True]
    assert [line["validation_loss"] != "" for line in lines] == [False, True, False, True]
    for line in lines:
        assert float(line["penalty"]) > 0
        # Plain SGD: the step is η times the gradient.
        assert float(line["step_length"]) == pytest.approx(0.3 * float(line["gradient_norm"]), rel=1e-4)
    norms = lines_of(tmp_path / "run", NORMS)
    assert [int(line["step"]) for line in norms] == list(range(1, 10))
    assert np.float32(norms[4]["gradient_norm"]) == np.float32(lines[2]["gradient_norm"])


def test_the_probed_norm_is_the_mean_over_its_micro_batches(images):
    spec = novack_spec(probe=probe(1, 3, 5))
    trainer = trainer_of(spec, images)
    before = {name: tensor.clone() for name, tensor in trainer.tensors(trainer.states[0]).items()}
    [measured] = probed_norms2(trainer)
    assert all(torch.equal(tensor, before[name]) for name, tensor in trainer.tensors(trainer.states[0]).items())
    model = build_model(spec.model, 1, 3, spec.seed).double()
    chosen = stream(spec.seed, "norm-probe", 0).choice(23, 15, replace=False)
    draws = draw(spec.augment, 23, spec.seed, 0, purpose="watch-augment")
    squares = []
    for micro in chosen.reshape(5, 3):
        logits = model.train()(torch.stack([shown(images, spec, draws, number) for number in micro]))
        loss = F.cross_entropy(logits, torch.from_numpy(images.train.labels[micro]))
        squares.append(sum(g.square().sum() for g in torch.autograd.grad(loss, list(model.parameters()))))
    torch.testing.assert_close(measured, torch.stack(squares).mean(), rtol=1e-9, atol=1e-12)


def test_no_test_image_influences_selection(images, tmp_path):
    spec = novack_spec(steps=40, evaluations=20, batch=5)
    chosen, weights, tests = set(), [], []
    for i in range(4):
        random, out = np.random.default_rng(i), tmp_path / str(i)
        test = Split(random.integers(0, 255, (11, 1, 8, 8)).astype(np.uint8), random.integers(0, 3, 11))
        manifest = images.manifest | {"sha256": content_digest(images.train, test)}
        data = folder_of(Dataset(images.train, test, manifest), tmp_path / f"data-{i}")
        chosen.add(run(spec, data, out)["best"]["step"])
        weights.append(load_file(out / "model.safetensors"))
        tests.append([float(line["test_accuracy"]) for line in lines_of(out)])
    assert len(chosen) == 1
    assert all(torch.equal(tensor, weights[0][name]) for own in weights for name, tensor in own.items())
    # The test sets do differ, and would have chosen otherwise.
    assert len({int(np.argmax(test)) for test in tests}) > 1


@pytest.mark.parametrize("every", [None, 3])
def test_the_weights_of_the_selected_step_are_kept(images, data, tmp_path, every):
    spec = novack_spec(steps=30, evaluations=3, batch=5, select_every=every)
    specs = with_seeds(spec, 0, 1)
    trainer, looks = Trainer(specs, images), {0: [], 1: []}
    while trainer.batch is not None:
        made = trainer.batch.step + 1
        trainer.after_step(trainer.step())
        for seed, state in enumerate(trainer.states):
            if made in (10, 20, 30) or (every and made % every == 1):
                logits = logits_at(trainer.objective, state.theta, state.running, trainer.normalize)
                found = evaluate(logits, *trainer.data["validation"])
                looks[seed].append((found["accuracy"], -made, trainer.tensors(state)))
    metrics = run(specs, data, tmp_path / "run")
    kept, loaded = load_file(tmp_path / "run" / BEST), list(load_runs(tmp_path / "run", tmp_path / "data"))
    steps = []
    for seed, own in looks.items():
        accuracy, negative, weights = max(own, key=lambda look: look[:2])
        steps.append(-negative)
        assert (metrics[seed]["best"]["step"], metrics[seed]["best"]["selected_on"]) == (-negative, "validation")
        assert metrics[seed]["best"]["validation_accuracy"] == accuracy
        assert {name for name in kept if name.startswith(f"{seed}/")} == {f"{seed}/{name}" for name in weights}
        assert all(torch.equal(kept[f"{seed}/{name}"], tensor) for name, tensor in weights.items())
        # Measures see these weights, and the reported accuracies are theirs.
        assert all(torch.equal(tensor, weights[name]) for name, tensor in loaded[seed].model.state_dict().items())
        gap = accuracy_gap(loaded[seed].model, loaded[seed].train, loaded[seed].test)
        for quantity in ("train_accuracy", "test_accuracy"):
            assert gap[quantity].value == pytest.approx(metrics[seed]["best"][quantity])
    assert min(steps) < 30
    lines = [line for line in lines_of(tmp_path / "run") if line["seed"] == "0"]
    assert [bool(line["validation_accuracy"]) for line in lines] == [True] * len(looks[0])
    assert [int(line["step"]) for line in lines if line["test_accuracy"]] == [10, 20, 30]


def test_an_interrupted_run_keeps_the_weights_of_the_same_step(data, tmp_path, monkeypatch):
    spec = novack_spec(steps=30, evaluations=3, batch=5, select_every=3)
    assert_continues(with_seeds(spec, 0, 1), data, tmp_path, monkeypatch, 2, 9, 28)


def test_a_run_that_does_not_select_keeps_no_other_weights(data, tmp_path):
    run(novack_spec(held_out=0.0), data, tmp_path / "run")
    assert load_file(tmp_path / "run" / BEST) == {}
    with pytest.raises(ValueError, match="select_every = 3: needs held_out"):
        novack_spec(held_out=0.0, select_every=3)


def test_held_out_images_are_the_last_and_are_never_trained_on(images):
    spec = novack_spec(batch=5)
    others = make_dataset(29)
    others.train.images[23:] = 255 - others.train.images[23:]
    results = []
    for dataset in (images, others):
        trainer = Trainer([spec], dataset)
        *_, step = (trainer.step() for _ in range(trainer.total))
        results.append((trainer.states[0].theta, trainer.evaluate(step, 0)))
    assert torch.equal(results[0][0], results[1][0])
    assert results[0][1]["validation_loss"] != results[1][1]["validation_loss"]
    assert [len(labels) for _, labels in trainer.data.values()] == [23, 6, 11]


def test_metrics_say_what_was_held_out_and_what_was_grafted(data, tmp_path):
    run(RUNS["SB"], data, tmp_path / "sb")
    norms = tmp_path / "sb" / NORMS
    metrics = run(RUNS["ExterGraft"], data, tmp_path / "run", norms=[norms])
    assert (metrics["data"]["train_images"], metrics["data"]["held_out_images"]) == (23, 6)
    assert metrics["steps"] == STEPS
    # Done already; with another log it is another job.
    assert run(RUNS["ExterGraft"], data, tmp_path / "run", norms=[norms])["ended"] == metrics["ended"]
    norms.write_text(norms.read_text().replace("\n3,1,", "\n3,1,1"))
    again = run(RUNS["ExterGraft"], data, tmp_path / "run", norms=[norms])
    assert again["data"]["reference_digest"] != metrics["data"]["reference_digest"]


def test_each_seed_grafts_the_norms_of_its_own(data, tmp_path):
    probed = [RUNS[name].replace(probe=probe(1, 5, 2)) for name in ("SB", "ExterGraft")]
    grafted, specs = (with_seeds(spec, 3, 4) for spec in probed)
    run(grafted, data, tmp_path / "sb")
    run(specs, data, tmp_path / "run", norms=[tmp_path / "sb" / NORMS])
    lengths = [[float(line["step_length"]) for line in lines_of(tmp_path / name)] for name in ("sb", "run")]
    assert len(lengths[0]) == 2 * STEPS
    np.testing.assert_allclose(lengths[1], lengths[0], rtol=1e-4)
    # Finished: both seeds are recognized.
    metrics = run(specs, data, tmp_path / "run", norms=[tmp_path / "sb" / NORMS])
    assert [one["sessions"] for one in metrics] == [1, 1]


@pytest.mark.parametrize("name", ["FT", "sampled GN", "IterGraft", "ExterGraft"])
def test_an_interrupted_run_continues_to_the_same_bits(data, tmp_path, monkeypatch, log, name):
    spec = RUNS[name].replace(probe=probe(3, 5, 2))
    assert_continues([spec], data, tmp_path, monkeypatch, 1, 5, norms=[log] if spec.reference else ())


def test_what_is_grafted_from_a_run_that_diverged_diverges_there_too(data, tmp_path):
    assert run(RUNS["SB"].replace(lr=1e30), data, tmp_path / "sb")["status"] == "diverged"
    metrics = run(RUNS["ExterGraft"], data, tmp_path / "run", norms=[tmp_path / "sb" / NORMS])
    assert metrics["status"] == "diverged"
    assert metrics["steps"] <= STEPS


@pytest.mark.parametrize(
    "change", [{"transform": make("transform", "iter_graft")}, {"penalty": penalty("fisher_trace", sample=20)}]
)
def test_images_of_stored_copies_are_drawn_from_all_of_them(images, tmp_path, change):
    plan = StoredCopies(copies=3, crop_padding=1, flip=False)
    store = build_store(images, plan, tmp_path / "s.lmdb")
    spec = novack_spec(batch="all", held_out=0.0, augment=None, store=plan, **change)
    trainer = Trainer([spec], images, inputs=Inputs(copies=store))
    taken, take = [], trainer.loader.take
    trainer.loader.take = lambda epoch, places: taken.extend(places[0]) or take(epoch, places)
    for _ in range(STEPS):
        trainer.step()
    assert 29 <= max(taken) < 3 * 29


def test_a_missing_log_is_one_line(data, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    spec = json.dumps(RUNS["ExterGraft"].to_dict())
    error = error_of(capsys, "train", "--spec", spec, "--data", data, "--out", tmp_path / "run")
    assert "results/mini/runs/novack2023/sb/seeds-0/gradient_norms.csv: no such file; the run whose" in error
    assert error.endswith("; the run whose gradient norms are grafted comes first")


def test_a_run_is_given_the_norms_that_it_grafts_and_no_others(images, data, log, tmp_path):
    with one_line("transform: the run needs the gradient norms of"):
        Trainer([RUNS["ExterGraft"]], images)
    with one_line(f"{log}: test is no run on grafted norms; leave it out"):
        run(RUNS["LB"], data, tmp_path / "run", norms=[log])


@pytest.mark.parametrize(("scale", "steps"), {"mini": 250, "small": 12_500, "midi": 500, "paper": 5000}.items())
def test_each_scale_looks_at_the_held_out_images_as_often(scale, steps):
    config = load_config([ROOT / f"config/{scale}.yaml"] if scale != "mini" else [])
    spec = scaled_spec(config, "novack2023", "resnet18-cifar10.lb-gn", 0)
    assert (spec.steps, spec.select_every) == (steps, steps // 250)
