"""The seminar deck's runs, and its picture of descent on a loss with two weights."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from conftest import ROOT, config_of, one_line, specs_at
from torch.func import grad, hessian

from whysgd.report import trajectories as pictures
from whysgd.report.style import save_figure
from whysgd.streams import stream
from whysgd.study.config import load_config
from whysgd.study.length import steps_per_epoch
from whysgd.study.papers import claims_at, expand, load_paper
from whysgd.study.trajectories import COLUMNS, specs_of
from whysgd.training.two_weights import descend, gradients, losses, sharpness, trajectories, valley

# Data set, network, full-batch epochs and learning rate.
EXPERIMENTS = {
    "mnist": ("mnist", "conv1", 100, 0.3), "fmnist": ("fashion_mnist", "conv1", 300, 0.1),
    "cifar": ("cifar10", "conv2", 100, 0.1),
}  # fmt: skip
# Clip and whether there is a penalty.
ROWS = {
    "fb": (None, False), "fb-clip-0.1": (0.1, False), "fb-clip-0.25": (0.25, False), "fb-clip-1": (1.0, False),
    "fb-reg": (None, True), "fb-clip-reg": (0.25, True),
}  # fmt: skip
PICTURE = load_paper("seminar")["trajectories"]
POINTS = np.array(PICTURE["points"])


@pytest.mark.parametrize("scale", ["paper", "midi"])
def test_the_settings_are_the_decks_and_ours_at_both_large_scales(scale):
    specs = specs_at("seminar", scale, seeds=[0])
    assert len(specs) == 21
    for name, (dataset, model, epochs, lr) in EXPERIMENTS.items():
        images = 50_000 if name == "cifar" else 60_000
        runs = {"sgd": (None, False), **ROWS}
        for run, (clip, penalty) in runs.items():
            spec = specs[f"{name}-{run}", 0]
            assert (spec.dataset, spec.model, spec.micro_batch, spec.weight_decay) == (dataset, model, 100, 0)
            assert (spec.augment, spec.clip, spec.schedule.decay) == (None, clip, "constant")
            assert spec.full_batch == (run != "sgd") == (not spec.shuffle) == spec.nesterov
            assert (spec.penalty is not None) == penalty
            if penalty:
                assert (spec.penalty.variant, spec.penalty.block_strength) == ("forward-differences", 0.5)
            if run == "sgd":
                assert (spec.epochs, spec.lr, spec.momentum) == (5, 0.1, 0)
                assert spec.epochs * steps_per_epoch(spec, images) == (2500 if name == "cifar" else 3000)
            else:
                assert (spec.epochs, spec.lr, spec.momentum) == (epochs, lr, 0.9)
                assert (steps_per_epoch(spec, images), spec.schedule.warmup) == (1, epochs / 10)
    # Where the deck has full batch reach SGD's result, it covers SGD's distance.
    for name in ("mnist", "fmnist"):
        spec = specs[f"{name}-fb", 0]
        assert spec.epochs * spec.lr / (1 - spec.momentum) == pytest.approx(3000 * 0.1)


def test_epochs_and_findings_are_those_of_the_shared_reference(shared_reference):
    theirs = {part["id"]: part for part in shared_reference["seminar"]["experiments"]}
    specs = specs_at("seminar", "paper", seeds=[0])
    for name in EXPERIMENTS:
        part = theirs[f"{name}-fb"]
        assert specs[f"{name}-sgd", 0].dataset == part["dataset"]
        finding = load_paper("seminar")["tables"][name]["finding"]
        assert finding.replace(" give the SGD result; tuned", "; tuned") == f"The deck: {part['finding']}."
        if "fb_epochs" in part:
            epochs = specs[f"{name}-sgd", 0].epochs, specs[f"{name}-fb", 0].epochs
            assert epochs == (part["sgd_epochs"], part["fb_epochs"])


def test_the_mini_scale_keeps_networks_epochs_and_full_batch_learning_rates():
    config = config_of(seminar=["mnist", "cifar"])
    config["scales"]["mini"] |= {"seeds": [0, 1, 2], "table_seeds": {"seminar": {"cifar": 1}}}
    mini, paper = {(run, seed): spec for (_, run, seed), spec in expand(config).items()}, specs_at("seminar", "paper")
    assert {run.split("-")[0] for run, _ in mini} == {"mnist", "cifar"}
    assert len(mini) == 7 * 3 + 7
    for (run, seed), spec in mini.items():
        theirs = paper[run, seed]
        assert (spec.dataset, spec.model, spec.micro_batch) == ("digits", theirs.model, 12)
        assert (spec.epochs, spec.schedule) == (theirs.epochs, theirs.schedule)
        # A step of fewer images has a smaller rate.
        assert spec.lr == (theirs.lr if spec.full_batch else theirs.lr / 8)


def test_the_decks_findings_are_claims_and_stand_under_the_tables():
    claims = claims_at(load_config(settings={"scale": "paper"}), "seminar")
    assert [claim.id for claim in claims] == ["d1", "d2a", "d2b", "d2c", "d3a", "d3b"]
    for tables, theirs in ((["mnist", "cifar"], ["d1", "d3a", "d3b"]), (["mnist"], ["d1"])):
        assert [claim.id for claim in claims_at(config_of(seminar=tables), "seminar")] == theirs
    finding = "The deck: with few epochs, clipping and gradient penalty add nothing."
    assert load_paper("seminar")["tables"]["cifar"]["finding"] == finding


def path_of(method, seed=0, **changes):
    """The weights of a method's run of the picture, with some of its settings changed."""
    settings = {**PICTURE, **changes}
    return descend(specs_of(settings)[method][seed], POINTS, PICTURE["start"])


def loss_of(points):
    """L(w) of points as a function that autograd differentiates."""
    x, y = torch.as_tensor(points).T
    return lambda w: ((w[0] * w[1] * x - y) ** 2).mean() / 2


def test_the_loss_its_gradient_and_its_sharpness_are_autograds(double):
    loss = loss_of(POINTS)
    for weights in torch.tensor([[0.9, 2.8], [-1.2, 0.3], [1.0, 1.0], [0.0, 0.0], [2.0, -1.0]]):
        own = weights.numpy()
        assert losses(own, POINTS) == pytest.approx(loss(weights).item(), rel=1e-12)
        expected = grad(loss)(weights).numpy()
        assert np.allclose(gradients(own, POINTS), expected, rtol=1e-12, atol=1e-14)
        curvature = torch.linalg.eigvalsh(hessian(loss)(weights))
        assert sharpness(own, POINTS) == pytest.approx(curvature[-1].item(), rel=1e-12)
    assert valley(POINTS) == pytest.approx(1.0)
    flattest = sharpness(np.array([[1.0, 1.0], [0.5, 2.0], [0.25, 4.0]]), POINTS)
    assert np.allclose(flattest, np.mean(POINTS[:, 0] ** 2) * np.array([2, 4.25, 16.0625]), rtol=1e-12)


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.5, False), (0.5, True)])
def test_gd_is_torchs_own_descent_by_autograd(double, momentum, nesterov):
    methods = {"gd": {**PICTURE["methods"]["gd"], "momentum": momentum, "nesterov": nesterov}}
    path = path_of("gd", methods=methods, steps=40, lr=0.1)
    w = torch.tensor(PICTURE["start"], requires_grad=True)
    optimizer = torch.optim.SGD([w], lr=0.1, momentum=momentum, nesterov=nesterov)
    for step in range(40):
        torch.testing.assert_close(path[step], w.detach(), rtol=1e-11, atol=1e-12)
        optimizer.zero_grad()
        loss_of(POINTS)(w).backward()
        optimizer.step()
    assert path.shape == (41, 2)
    assert path.dtype == torch.float64


@pytest.mark.parametrize("block", [1, 2])
@pytest.mark.parametrize("seed", [0, 3])
def test_sgd_takes_the_blocks_that_a_run_of_this_seed_draws(block, seed):
    in_epoch = len(POINTS) // block
    for step, (w, after) in enumerate(pairwise(path_of("sgd", seed, micro_batch=block, steps=30))):
        order = stream(seed, "order", step // in_epoch).permutation(len(POINTS))
        drawn = POINTS[order[step % in_epoch * block :][:block]]
        expected = w - PICTURE["lr"] * grad(loss_of(drawn))(w)
        torch.testing.assert_close(after, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("variant", "tolerance"), [("exact", 1e-12), ("central-differences", 1e-7), (None, 1e-3)])
@pytest.mark.parametrize("block", [1, 4])
def test_the_penalty_is_the_hessian_product_of_every_block(variant, tolerance, block):
    penalty = {"name": "gradient_norm", "block_strength": 0.8, "eps": 1e-5, **({"variant": variant} if variant else {})}
    methods = {"regularized": {**PICTURE["methods"]["regularized"], "penalty": penalty}}
    path = path_of("regularized", methods=methods, micro_batch=block, steps=5, lr=0.1)
    for w, after in pairwise(path):
        parts = []
        for loss in map(loss_of, POINTS.reshape(-1, block, 2)):
            g = grad(loss)(w)
            parts.append(g + 0.1 / 4 * hessian(loss)(w) @ (0.8 * g))
        expected = w - 0.1 * torch.stack(parts).mean(0)
        torch.testing.assert_close(after, expected, rtol=0, atol=tolerance * (expected - w).abs().max().item())


def test_clipping_shortens_long_steps_only():
    clipped = []
    for w, after in pairwise(path_of("clipped", steps=30)):
        g = grad(loss_of(POINTS))(w)
        clipped.append(g.norm() > 0.5)
        g = g * (0.5 / (g.norm() + 1e-6)) if clipped[-1] else g
        torch.testing.assert_close(after, w - PICTURE["lr"] * g, rtol=1e-10, atol=1e-12)
    assert clipped[0]
    assert not clipped[-1]


def test_each_method_descends_from_the_start_and_only_drawn_blocks_have_seeds():
    frame = pd.DataFrame(trajectories({**PICTURE, "steps": 20}))
    assert frame.columns.tolist() == list(COLUMNS)
    assert frame.groupby("method").seed.nunique().to_dict() == {"gd": 1, "clipped": 1, "regularized": 1, "sgd": 5}
    assert (frame.groupby(["method", "seed"]).step.max() == 20).all()
    assert (frame[frame.step == 0][["w1", "w2"]] == PICTURE["start"]).all(axis=None)
    assert np.isfinite(frame.drop(columns="method").to_numpy()).all()


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """What a short picture's rule writes."""
    folder = tmp_path_factory.mktemp("drawn")
    settings = {**PICTURE, "steps": 25, "seeds": 2}
    frame = pd.DataFrame(trajectories(settings))
    files = {kind: folder / f"gd-2d.{kind}" for kind in ("svg", "png")}
    figure = pictures.plot_trajectories(settings, frame)
    save_figure(figure, files["svg"], files["png"])
    return settings, frame, files, figure


def test_the_picture_shows_paths_loss_and_sharpness(drawn):
    settings, frame, files, figure = drawn
    plane, loss, sharp = figure.axes
    assert (plane.get_xlabel(), plane.get_ylabel(), loss.get_yscale()) == ("w₁", "w₂", "log")
    paths = [line.get_xydata() for line in plane.lines if len(line.get_xydata()) == 26]
    assert len(paths) == frame.groupby(["method", "seed"]).ngroups == 5
    gd = frame[frame.method == "gd"]
    assert any(np.array_equal(path, gd[["w1", "w2"]]) for path in paths)
    assert sharp.get_ylim()[1] >= 2 / settings["lr"]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["GD", "GD, clip 0.5", "GD, penalty", "SGD, 2 seeds"]
    assert all(file.stat().st_size > 5000 for file in files.values())
    assert "Descent on a loss" in files["svg"].read_text()


def test_the_title_says_whose_largest_eigenvalue_ends_lowest_and_highest():
    # Of ten steps the last two count; the median over both seeds of B is 4.
    lines = [("a", 0, 8, 9.0), ("a", 0, 9, 1.0), ("a", 0, 10, 2.0), ("b", 0, 10, 3.0), ("b", 1, 10, 5.0)]
    frame = pd.DataFrame(lines, columns=["method", "seed", "step", "sharpness"])
    settings = {"steps": 10, "methods": {"a": {"label": "A"}, "b": {"label": "B"}}}
    title, numbers = pictures.message(settings, frame)
    assert title == "The largest Hessian eigenvalue ends lowest for A, at 1.5, and highest for B, at 4.0"
    assert numbers.endswith("A 1.5; B 4.0")


MISTAKES = {
    "rate": ({"lr": -1}, r"trajectories.lr = -1: must be above 0"),
    "start": ({"start": [1]}, r"trajectories.start = \[1\]: must have at least 2 entries"),
    "steps": ({"steps": 0}, "trajectories.steps = 0: must be at least 1"),
    "unknown key": ({"learning_rate": 1}, "trajectories.learning_rate: unknown key; allowed here: .*lr"),
    "micro_batch": ({"micro_batch": 3}, "trajectories.micro_batch = 3: must divide 8, the points, into micro-batches of equal size"),
    "no slope": ({"points": [[0, 1], [0, 2]]}, r"trajectories.points = .*: an x must not be 0"),
    "penalty": ({"methods": {"a": {"label": "A", "penalty": {"name": "fisher_trace"}}}},
                "trajectories.methods.a.penalty.name = 'fisher_trace': allowed: gradient_norm"),
    "clip": ({"methods": {"a": {"label": "A", "clip": 0}}}, "trajectories.methods.a.clip = 0: must be above 0"),
    "macro-batch": ({"methods": {"a": {"label": "A", "batch": 4}}},
                    "trajectories.methods.a.batch = 4: allowed: all, micro_batch"),
    "no label": ({"methods": {"a": {}}}, "trajectories.methods.a: label must be given"),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_in_the_picture_is_one_line(changes, message, load_own_paper):
    content = yaml.safe_load((ROOT / "papers/seminar.yaml").read_text()) | {"paper": "mine"}
    content["trajectories"] |= changes
    with one_line(f"papers/mine.yaml: {message}"):
        load_own_paper(yaml.safe_dump(content))
