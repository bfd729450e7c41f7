"""The figures of grids and of gradient noise."""

import math

import numpy as np
import pandas as pd
import pytest
import yaml

from whysgd.errors import UserError
from whysgd.report import figures, noise_figures, tail_figures
from whysgd.study.config import load_config
from whysgd.study.papers import tables_at
from whysgd.study.validation import ROOT

PAPER = "simsekli2019"
# The scale mini with a grid of its own, so that another choice there changes no number here.
CONFIG = load_config()
CONFIG["scales"]["mini"]["grids"] = {PAPER: {"mnist": {"depth": [2, 4, 8], "width": [4, 16, 64, 256]}}}
TABLES = tables_at(CONFIG, PAPER)
GRID = TABLES["mnist"]


def measures(value, seeds=3, table=GRID, half=None) -> pd.DataFrame:
    """The tail index of every cell as value(axes, seed), with an interval of ± half, if given."""
    lines = []
    for row in table["rows"]:
        for seed in range(seeds):
            found = value(row["axes"], seed)
            low, high = (math.nan, math.nan) if half is None else (found - half, found + half)
            lines.append({"paper": PAPER, "run": row["run"], "scale": "mini", "seed": seed, "measure": "tail_index",
                          "quantity": "tail_index", "value": found, "low": low, "high": high})  # fmt: skip
    return pd.DataFrame(lines)


def falling(axes, seed):
    return 1.6 - 0.05 * math.log2(axes["width"]) + 0.01 * axes["depth"] + 0.001 * seed


def runs_of(*names, steps=lambda run: 650, seeds=3) -> pd.DataFrame:
    return pd.DataFrame([
        {"paper": PAPER, "run": run, "scale": "mini", "seed": seed, "status": "finished", "steps": steps(run),
         "parameters": 20_000, "test_accuracy": 90.0, "best_test_accuracy": 90.0, "best_selected_on": "test",
         "dataset": "scikit-learn digits", "train_images": 512, "held_out_images": 0, "test_images": 1285,
         "model": f"fc_{'_'.join(run.split('-')[2:])}", "device": "cpu", "stored_copies": 0}
        for run in names for seed in range(seeds)
    ])  # fmt: skip


def test_every_kind_of_figure_has_a_caption_and_a_word_in_the_readme():
    schema = yaml.safe_load((ROOT / "config/paper.schema.yaml").read_text())
    kinds = schema["properties"]["tables"]["additionalProperties"]["properties"]["figures"]["items"]["enum"]
    assert {"width", "heatmap", "noise_course", "noise_norms"} <= set(kinds)
    readme = (ROOT / "README.md").read_text()
    assert [kind for kind in kinds if f"`{kind}`" not in readme] == []
    assert [kind for kind in kinds if not (ROOT / f"docs/captions/{kind}.rst").is_file()] == []


def test_the_figure_of_widths_has_a_line_for_each_depth_and_the_gaussian(tmp_path):
    frame = measures(falling)
    figure = tail_figures.plot_width(GRID, frame, "here")
    assert [axis.get_title() for axis in figure.axes] == ["cross entropy", "linear hinge"]
    assert [axis.get_xlabel() for axis in figure.axes] == ["width", "width"]
    axis = figure.axes[0]
    assert (axis.get_xscale(), axis.get_ylabel()) == ("log", "tail index of gradient noise")
    lines = {line.get_label(): line for line in axis.lines if line.get_label() in "248"}
    assert list(lines) == ["2", "4", "8"]
    assert lines["4"].get_xdata().tolist() == [4, 16, 64, 256]
    mean = 1.6 - 0.05 * np.log2([4, 16, 64, 256]) + 0.04 + 0.001
    assert lines["4"].get_ydata() == pytest.approx(mean)
    dots = [line for line in axis.lines if line.get_marker() == "o"]
    assert sum(len(line.get_xdata()) for line in dots) == 3 * 4 * 3
    assert any(list(line.get_ydata()) == [2.0, 2.0] for line in axis.lines)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["2", "4", "8"]
    assert figure.get_suptitle().endswith("here; n = 3 seeds")
    figures.save_figure(figure, [tmp_path / "width.svg", tmp_path / "width.png"])
    assert (tmp_path / "width.png").read_bytes().startswith(b"\x89PNG")


def test_the_map_has_a_number_in_each_cell():
    lame = measures(
        lambda axes, seed: math.nan if axes == {"loss": "linear_hinge", "depth": 8, "width": 4} else falling(axes, seed)
    )
    figure = tail_figures.plot_heatmap(GRID, lame, "here")
    first, second, bar = figure.axes
    numbers = [[text.get_text() for text in axis.texts] for axis in (first, second)]
    assert numbers[0][:5] == ["1.52", "1.42", "1.32", "1.22", "1.54"]
    assert len(numbers[1]) == 12
    assert numbers[1][8] == "–"
    assert [label.get_text() for label in first.get_yticklabels()] == ["2", "4", "8"]
    assert (first.get_ylabel(), first.get_xlabel(), bar.get_ylabel()) == (
        "depth",
        "width",
        "tail index of gradient noise",
    )


def test_a_grid_of_names_has_colours_of_the_palette():
    table = tables_at(load_config(settings={"scale": "paper"}), PAPER)["alexnet"]
    frame = measures(lambda axes, seed: 1.5 - axes["channels"] / 500, table=table, seeds=1)
    figure = tail_figures.plot_width(table, frame, "here")
    assert [axis.get_title() for axis in figure.axes] == ["CIFAR-10", "CIFAR-100"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["cross entropy", "linear hinge"]
    assert figure.get_suptitle().endswith("n = 1 seed")
    with pytest.raises(UserError, match="nothing was measured of the table's grid"):
        tail_figures.plot_width(table, frame[:0], "here")


def course(run, seed, end):
    steps = [step for step in (0, 1, 5, 20, 80, 300) if step < end] + [end]
    lines = [{"run": run, "seed": seed, "step": step, "tail_index": 1.5 - 0.001 * step + 0.1 * seed,
              "tail_index_low": 1.4 - 0.001 * step, "tail_index_high": 1.7 - 0.001 * step} for step in steps]  # fmt: skip
    norms = [{"run": run, "seed": seed, "step": step, "mini_batch": b, "noise_norm": 0.5 + b / 32 * (step > 0)}
             for step in (0, end) for b in range(32)]  # fmt: skip
    history = [{"run": run, "seed": seed, "step": step, "train_loss": 1 / step, "train_accuracy": 50 + step / 13,
                "test_accuracy": 40 + step / 13} for step in (43, 86, end)]  # fmt: skip
    return lines, norms, [*history, {"run": run, "seed": seed, "step": 44, "train_loss": math.nan}]


FC = ["mnist-cross_entropy-d4-w64", "mnist-linear_hinge-d4-w64"]
PARTS = [course(run, seed, 650 if run == FC[1] else 200 + 100 * seed) for run in FC for seed in (0, 1)]
NOISE, NORMS, HISTORY = (pd.DataFrame([line for part in PARTS for line in part[place]]) for place in range(3))


def test_the_course_of_the_noise_has_a_colour_for_each_run_and_a_dot_where_it_ends(tmp_path):
    figure = noise_figures.plot_noise_course(TABLES["iterations"], NOISE, HISTORY, "here")
    tail, loss, accuracy = figure.axes
    assert [axis.get_ylabel() for axis in figure.axes] == [
        "tail index of gradient noise", "training loss (each run's own)", "accuracy [%]"
    ]  # fmt: skip
    assert tail.get_xscale() == "symlog"
    solid = [line for line in tail.lines if line.get_linestyle() == "-"]
    means = solid[0]
    # Seed 0 ends after 200 steps, seed 1 after 300: from there on it is alone.
    assert means.get_xdata().tolist() == [0, 1, 5, 20, 80, 300]
    assert means.get_ydata() == pytest.approx([1.55, 1.549, 1.545, 1.53, 1.47, 1.3])
    ends = [(line.get_xdata()[0], round(line.get_ydata()[0], 6)) for line in tail.lines if line.get_marker() == "o"]
    assert ends == [(200, 1.3), (300, 1.3), (650, 0.85), (650, 0.95)]
    assert len([line for line in loss.lines if line.get_marker() != "o"]) == 4
    assert len([line for line in accuracy.lines if line.get_marker() != "o"]) == 8
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names[:2] == ["FC, depth 4, width 64, cross entropy", "FC, depth 4, width 64, linear hinge"]
    figures.save_figure(figure, [tmp_path / "course.png"])


def test_noise_norms_are_in_units_of_their_root_mean_square(tmp_path):
    runs = runs_of(*FC, seeds=1)
    figure = noise_figures.plot_noise_norms(TABLES["iterations"], NORMS, runs, "here")
    assert len(figure.axes) == 2
    norms = 0.5 + np.arange(32) / 32
    rms = np.sqrt(np.mean(norms**2))
    title = figure.axes[0].get_title()
    assert f"root mean square 0.5 → {rms:.3g} in 200 steps; Gaussian ± {196 / math.sqrt(40_000):.2g} %" in title
    for axis in figure.axes:
        shares = [patch.get_data().values for patch in axis.patches if hasattr(patch, "get_data")]
        assert [share.sum() for share in shares] == pytest.approx([100, 100])
    assert "32 mini-batches, first seed" in figure.get_suptitle()
    figures.save_figure(figure, [tmp_path / "norms.png"])
    with pytest.raises(UserError, match="the noise of no run was measured"):
        noise_figures.plot_noise_norms(TABLES["iterations"], NORMS[:0], runs, "here")


def test_layers_have_a_line_each_for_their_weights_and_gradients(tmp_path):
    lines = [{"run": run, "seed": seed, "step": step, "layer": name, "weight_norm": 3.0 + index + seed, "gradient_norm": 0.1 * step + index}
             for place, run in enumerate(FC) for seed in (0, 1) for step in (0, 1, 9)
             for index, name in enumerate(["a.weight", "a.bias", "b.weight", "c.weight"][: 4 - place])]  # fmt: skip
    figure = noise_figures.plot_layer_norms(TABLES["iterations"], pd.DataFrame(lines), "here")
    assert [len(axis.lines) for axis in figure.axes] == [3, 2, 3, 2]
    weights, fewer, gradients, _ = figure.axes
    assert [list(line.get_ydata()) for line in weights.lines] == [[3.0] * 3, [5.0] * 3, [6.0] * 3]
    assert list(gradients.lines[1].get_ydata()) == pytest.approx([2.0, 2.1, 2.9])
    # A layer has the same colour in all panels.
    assert [line.get_color() for line in fewer.lines] == [line.get_color() for line in weights.lines[:2]]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["1", "2", "3"]
    figures.save_figure(figure, [tmp_path / "layers.png"])


@pytest.mark.parametrize("parameters", [200, 2000])
def test_the_gaussian_width_holds_95_percent_of_the_norms(parameters):
    entries = np.random.default_rng(0).standard_normal((2000, parameters))
    ratios = np.linalg.norm(entries, axis=1) / math.sqrt(parameters)
    inside = np.abs(ratios - 1) < noise_figures.half_width(parameters)
    assert inside.mean() == pytest.approx(0.95, abs=0.015)
