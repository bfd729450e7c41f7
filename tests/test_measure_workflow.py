"""Measures, landscapes and what is made of them, in the finished project."""

import copy
import shutil

import pandas as pd
import pytest
from conftest import run
from miniature import OVERLAY, WORLD, planned, write_config

from whysgd.files import read_json
from whysgd.measures.catalog import MEASURES, QUANTITIES

pytestmark = pytest.mark.workflow
# Batches of two seeds each, by paper.
BATCHES = {"geiping2022": 5, "novack2023": 3, "iyer2023": 4, "simsekli2019": 3}


def test_every_run_has_every_measure(miniature):
    place = miniature / "results/tiny/measures"
    files = list(place.glob("*/*/*/*.json"))
    assert {(file.parent.name, file.name) for file in files} == {("seeds-0-1", "all.json")}
    assert {paper: len(list(place.glob(f"{paper}/*"))) for paper in BATCHES} == BATCHES
    runs, tidy = pd.read_csv(place / "runs.csv"), pd.read_csv(place / "tidy.csv")
    assert len(runs) == 2 * sum(BATCHES.values())
    assert set(tidy.quantity) == set(QUANTITIES)
    assert len(tidy) == len(runs) * len(QUANTITIES)
    results = read_json(place / "geiping2022/fb/seeds-0-1/all.json")
    assert [(one["seed"], one["measure"]) for one in results] == [(seed, name) for seed in (0, 1) for name in MEASURES]
    sharpness = [one["quantities"]["keskar_sharpness"]["value"] for one in results if one["measure"] == "keskar"]
    assert runs[runs.run == "fb"].sort_values("seed").keskar_sharpness.tolist() == pytest.approx(sharpness)
    assert "fb-strong-reg" in (place / "table.md").read_text()
    assert "# What the measures say" in (place / "summary.md").read_text()


def test_figures_and_page_show_them(miniature):
    place = miniature / "results/tiny"
    names = ["geiping2022_main_landscape", "geiping2022_main_contours",
             "measures_correlations", "iyer2023_explore_strips", "simsekli2019_mnist_width",
             "simsekli2019_iterations_noise_norms"]  # fmt: skip
    for name in names:
        assert (place / f"figures/{name}.svg").stat().st_size > 2000, name
        assert (place / f"figures/{name}.png").stat().st_size > 2000, name
    page = (place / "index.html").read_text()
    assert page.count("data:image/svg+xml;base64,") == len(list(place.glob("figures/*.png")))
    assert "largest Hessian eigenvalue" in page
    assert "Longer exploration finds wider minima" in page


def test_claims_about_measures_are_judged(miniature):
    claims = pd.read_csv(miniature / "results/tiny/claims/iyer2023.csv").set_index("id")
    assert claims.evidence["i3"].startswith("spearman(explore-0, explore-30, explore-60, explore-100) = ")
    assert "n = 8" in claims.evidence["i3"]
    assert "g7" in pd.read_csv(miniature / "results/tiny/claims/geiping2022.csv").id.tolist()


def test_the_log_of_the_noise_ends_with_what_the_measure_finds(miniature):
    """They are of the same micro-batches and the same weights."""
    name = "simsekli2019/mnist-linear_hinge-d4-w64/seeds-0-1"
    folder = miniature / "results/tiny/runs" / name
    noise, layers = pd.read_csv(folder / "noise.csv"), pd.read_csv(folder / "layers.csv")
    norms = pd.read_csv(folder / "noise_norms.csv")
    measured = read_json(miniature / "results/tiny/measures" / name / "all.json")
    tails = {one["seed"]: one["quantities"]["tail_index"] for one in measured if one["measure"] == "tail_index"}
    assert list(tails) == [0, 1]
    for seed, quantity in tails.items():
        last = noise[noise.seed == seed].iloc[-1]
        assert last.tail_index == pytest.approx(quantity["value"], rel=1e-3)
        assert [last.tail_index_low, last.tail_index_high] == pytest.approx(quantity["interval"], rel=1e-3)
        counted = norms[norms.seed == seed].groupby("split").mini_batch.nunique()
        assert counted.to_dict() == {"train": 512 // 16, "test": 1285 // 16}
        assert layers[layers.seed == seed].layer.nunique() == 4
    table = pd.read_csv(miniature / "results/tiny/tables/simsekli2019_mnist.csv")
    assert table.n.tolist() == [2, 2]


def test_landscapes_are_those_of_the_command_line(miniature, tmp_path):
    place = miniature / "results/tiny/landscapes/geiping2022/fb/seeds-0-1"
    names = ["line_0-of-1.csv", "plane_0-of-2.csv", "plane_1-of-2.csv"]
    assert sorted(file.name for file in place.iterdir()) == names
    plane = pd.concat([pd.read_csv(place / f"plane_{i}-of-2.csv") for i in (0, 1)], ignore_index=True)
    line = pd.read_csv(place / "line_0-of-1.csv")
    assert plane.groupby("seed").size().to_dict() == {0: 9}
    assert line.groupby("seed").size().to_dict() == {0: 5, 1: 5}
    common = ["--images", 128, "--device", "cpu", "--run", "results/tiny/runs/geiping2022/fb/seeds-0-1"]
    for kind, points, known in (("line", ["--points", 5], line), ("plane", ["--points", 3, "--seed", 0], plane)):
        run(["whysgd", "landscape", kind, *points, *common, "--out", tmp_path / f"{kind}.csv"], miniature)
        pd.testing.assert_frame_equal(pd.read_csv(tmp_path / f"{kind}.csv"), known)


def test_a_lost_part_of_a_landscape_is_computed_again_alone(miniature):
    place = miniature / "results/tiny"
    names = "landscapes/geiping2022/sgd/seeds-0-1/plane_1-of-2.csv", "figures/geiping2022_main_contours.svg"
    lost = [place / name for name in names]
    for file in lost:
        shutil.move(file, f"{file}.kept")
    jobs = planned(miniature, *OVERLAY)
    for file in lost:
        shutil.move(f"{file}.kept", file)
    assert jobs == {"measure_landscape": 1, "plot_figure": 1, "write_page": 1}


def test_nothing_has_to_be_measured(miniature):
    drawn = ("landscape", "contours", "strips", "width")
    lost = [file for file in (miniature / "results/tiny/figures").iterdir() if file.stem.endswith(drawn)]
    assert len(lost) == 8
    for file in lost:
        shutil.move(file, f"{file}.kept")
    found = {}
    for measures in ([], ["flatness"]):
        overlay = write_config(miniature, "other.yaml", copy.deepcopy(WORLD) | {"measures": measures})
        found[len(measures)] = planned(miniature, *overlay)
    for file in lost:
        shutil.move(f"{file}.kept", file)
    assert not {"train", "measure", "measure_landscape", "collect_measures", "plot_figure"} & set(found[0])
    # Of the landscapes only figures are lost, and strips say what is not measured; grids would need tail indices.
    assert (found[1]["measure"], found[1]["plot_figure"]) == (sum(BATCHES.values()), 3)
    assert "train" not in found[1]
