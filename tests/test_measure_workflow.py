"""Measures, landscapes and what is made of them, by Snakemake on a copy of the project."""

import shutil

import pandas as pd
import pytest
import yaml
from conftest import copy_with, run
from test_workflow import planned, snakemake

from whysgd.files import read_json
from whysgd.measures.catalog import MEASURES, QUANTITIES

pytestmark = pytest.mark.workflow

WORLD = {
    "scale": "tiny",
    "papers": ["geiping2022", "iyer2023"],
    "evaluations": 3,
    "scales": {
        "tiny": {
            "description": "for tests", "seeds": [0], "table_seeds": {"iyer2023": {"explore": 2}}, "datasets": {"*": "digits"}, "models": {"*": "resnet_mini"},
            "tables": {"geiping2022": ["main"], "iyer2023": ["explore"]}, "skip": {"geiping2022": ["fb-practice", "fb-long"]},
            "time_divisor": 200, "block_divisor": 2, "augmentation": {"crop_padding": 1, "flip": False},
            "measuring": {
                "together": True, "keskar": {"steps": 2, "batch": 16}, "flatness": {"directions": 2, "first": 50}, "fisher": {"first": 10},
                "hessian": {"products": 5, "probes": 2, "first": 50}, "gradient_noise": {"micro_batch": 64},
                "landscape": {"line_points": 5, "line_chunks": 1, "plane_points": 3, "plane_chunks": 2, "shared": True, "images": 128},
            },
        }
    },
}  # fmt: skip
OVERLAY = ["--configfile", "tiny.yaml"]
RUNS = 5 + 4 * 2
DRAWN = {"plot_correlations": 1, "write_reading": 1, "tabulate_measures": 1, "write_page": 1}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = copy_with(tmp_path_factory.mktemp("measured") / "project", WORLD)
    snakemake(folder, *OVERLAY)
    return folder


@pytest.fixture
def configured(finished):
    """Plan with other values of the scale's `measuring`, or other keys of the configuration."""

    def plan(keys=None, **measuring):
        scale = {**WORLD["scales"]["tiny"]}
        scale["measuring"] = {**scale["measuring"], **measuring}
        content = {**WORLD, **(keys or {}), "scales": {"tiny": scale}}
        (finished / "other.yaml").write_text(yaml.safe_dump(content))
        return {
            rule: jobs for rule, jobs in planned(finished, "--configfile", "other.yaml").items() if rule != "iyer2023"
        }

    return plan


def test_every_run_has_every_measure(finished):
    place = finished / "results/tiny"
    files = list(place.glob("measures/*/*/*/*.json"))
    assert len(files) == RUNS * len(MEASURES)
    tidy = pd.read_csv(place / "measures/tidy.csv")
    assert set(tidy.quantity) == set(QUANTITIES)
    assert len(tidy) == RUNS * len(QUANTITIES)
    assert set(tidy.paper) == {"geiping2022", "iyer2023"}
    runs = pd.read_csv(place / "measures/runs.csv")
    assert len(runs) == RUNS
    shown = read_json(place / "measures/geiping2022/fb/seed-0/keskar.json")["quantities"]["keskar_sharpness"]["value"]
    assert runs[runs.run == "fb"].keskar_sharpness.item() == pytest.approx(shown)
    assert "fb-strong-reg" in (place / "measures/table.md").read_text()
    assert "# What the measures say" in (place / "measures/summary.md").read_text()


def test_figures_and_page_show_them(finished):
    place = finished / "results/tiny"
    names = ["geiping2022_main_landscape", "geiping2022_main_contours", "geiping2022_main_surface", "measures_correlations",
             "iyer2023_explore_histograms"]  # fmt: skip
    for name in names:
        assert (place / f"figures/{name}.svg").stat().st_size > 2000, name
        assert (place / f"figures/{name}.png").stat().st_size > 2000, name
    page = (place / "index.html").read_text()
    assert page.count("data:image/png;base64,") == len(list(place.glob("figures/*.png")))
    assert "Every run, every measure" in page
    assert "largest Hessian eigenvalue" in page
    assert "Longer exploration finds wider minima" in page


def test_claims_about_measures_are_judged(finished):
    claims = pd.read_csv(finished / "results/tiny/claims/iyer2023.csv").set_index("id")
    assert claims.evidence["i3"].startswith("spearman(explore-0, explore-30, explore-60, explore-100) = ")
    assert "n = 8" in claims.evidence["i3"]
    assert "g7" in pd.read_csv(finished / "results/tiny/claims/geiping2022.csv").id.tolist()


def test_planes_share_their_directions(finished):
    place = finished / "results/tiny/landscapes/geiping2022"
    assert sorted(file.name for file in (place / "fb/seed-0").iterdir()) == [
        "line_0-of-1.csv", "plane_0-of-2.csv", "plane_1-of-2.csv",
    ]  # fmt: skip
    points = pd.concat([pd.read_csv(place / f"fb/seed-0/plane_{i}-of-2.csv") for i in (0, 1)])
    assert len(points) == 9
    # The same by hand, with the lengths of the first run's filters; with its own it is another plane.
    runs = "results/tiny/runs/geiping2022"
    command = [
        "whysgd",
        "landscape",
        "plane",
        "--points",
        3,
        "--images",
        128,
        "--run",
        f"{runs}/fb/seed-0",
        "--device",
        "cpu",
    ]
    for name, more in (("shared", ["--like", f"{runs}/sgd/seed-0"]), ("own", [])):
        run([*command, "--out", f"{name}.csv", *more], finished)
    shared, own = (pd.read_csv(finished / f"{name}.csv") for name in ("shared", "own"))
    assert points.loss.tolist() == shared.loss.tolist()
    assert (points.loss.to_numpy() != own.loss.to_numpy()).sum() == 8


def test_a_second_run_has_nothing_to_do(finished):
    assert planned(finished, *OVERLAY) == {}


def test_a_lost_part_of_a_landscape_is_computed_again_alone(finished):
    place = finished / "results/tiny"
    lost = [
        place / "landscapes/geiping2022/sgd/seed-0/plane_1-of-2.csv",
        place / "figures/geiping2022_main_contours.svg",
    ]
    for file in lost:
        shutil.move(file, f"{file}.kept")
    jobs = planned(finished, *OVERLAY)
    for file in lost:
        shutil.move(f"{file}.kept", file)
    assert jobs == {"measure_landscape": 1, "plot_landscape": 2, "write_page": 1}


def test_an_edited_option_measures_again_and_trains_nothing(configured):
    judged = {"check_claims": 2, "collect_measures": 2, "plot_histograms": 1}
    assert configured(keskar={"steps": 3, "batch": 16}) == {"measure": RUNS, **judged, **DRAWN}
    landscape = {**WORLD["scales"]["tiny"]["measuring"]["landscape"], "line_points": 7}
    assert configured(landscape=landscape) == {"measure_landscape": 5, "plot_landscape": 1, "write_page": 1}


def test_each_measure_can_be_a_job_of_its_own(configured, finished):
    planned_jobs = configured(together=False)
    assert {rule: jobs for rule, jobs in planned_jobs.items() if rule.startswith("measure_")} == {
        f"measure_{name}": RUNS for name in MEASURES
    }
    assert "train" not in planned_jobs
    before = (finished / "results/tiny/measures/geiping2022/fb/seed-0/fisher.json").read_text()
    target = "results/tiny/measures/geiping2022/sgd/seed-0/keskar.json"
    first = read_json(finished / target)["quantities"]
    snakemake(finished, target, "--configfile", "other.yaml", "--forcerun", "measure_keskar")
    assert read_json(finished / target)["quantities"] == first
    assert (finished / "results/tiny/measures/geiping2022/fb/seed-0/fisher.json").read_text() == before


def test_nothing_has_to_be_measured(configured, finished):
    drawn = ("landscape", "contours", "surface", "histograms")
    lost = [file for file in sorted((finished / "results/tiny/figures").iterdir()) if file.stem.endswith(drawn)]
    assert len(lost) == 8
    for file in lost:
        shutil.move(file, f"{file}.kept")
    nothing = configured({"measures": []})
    few = configured({"measures": ["flatness"]})
    for file in lost:
        shutil.move(f"{file}.kept", file)
    assert not {rule for rule in nothing if "measure" in rule or rule.removeprefix("plot_") in drawn or rule == "train"}
    # Of the landscapes only figures are lost; histograms would need Keskar sharpness.
    assert (few["measure"], few["plot_landscape"]) == (RUNS, 3)
    assert "plot_histograms" not in few
