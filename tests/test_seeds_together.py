"""Papers whose seeds share a job, by Snakemake on a copy of the project."""

import pandas as pd
import pytest
from conftest import copy_with
from test_workflow import planned, snakemake

from whysgd.files import read_json

pytestmark = pytest.mark.workflow

WORLD = {
    "scale": "tiny", "papers": ["simsekli2019"], "evaluations": 2, "measures": ["tail_index"],
    "scales": {"tiny": {
        "seeds": [0, 1], "datasets": {"*": "digits"}, "tables": {"simsekli2019": ["mnist"]}, "time_divisor": 5000, "block_divisor": 6.25,
        "grids": {"simsekli2019": {"mnist": {"depth": [2, 4], "width": [4, 8], "loss": ["linear_hinge"]}}},
        "measuring": {"together": False, "tail_index": {"micro_batch": 16}},
    }},
}  # fmt: skip
OVERLAY = ["--configfile", "tiny.yaml"]
REPORTED = {"collect_runs", "collect_measures", "make_table", "check_claims", "plot_grid", "tabulate_measures",
            "plot_correlations", "write_reading", "write_page"}  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = copy_with(tmp_path_factory.mktemp("seeds") / "project", WORLD)
    jobs = planned(folder, *OVERLAY)
    snakemake(folder, *OVERLAY)
    return folder, jobs


def test_the_seeds_of_a_run_share_one_job_for_training_and_one_for_measuring(finished):
    folder, jobs = finished
    assert (jobs["train_seeds"], jobs["measure_seeds"]) == (4, 4)
    assert not {"train", "measure_tail_index"} & set(jobs)
    place = folder / "results/tiny"
    for seed in (0, 1):
        run = place / f"runs/simsekli2019/mnist-linear_hinge-d4-w8/seed-{seed}"
        metrics = read_json(run / "metrics.json")
        assert (metrics["seed"], metrics["trained_together"], metrics["settings"]["loss"]) == (seed, 2, "linear_hinge")
        assert len(pd.read_csv(run / "noise_norms.csv").mini_batch.unique()) == 32
        assert pd.read_csv(run / "layers.csv").layer.nunique() == 4
        # The log along the run ends with what the measure finds: the same blocks of the same weights.
        measured = read_json(place / f"measures/simsekli2019/mnist-linear_hinge-d4-w8/seed-{seed}/tail_index.json")
        last = pd.read_csv(run / "noise.csv").iloc[-1]
        quantity = measured["quantities"]["tail_index"]
        assert last.tail_index == pytest.approx(quantity["value"], rel=1e-3)
        assert [last.tail_index_low, last.tail_index_high] == pytest.approx(quantity["interval"], rel=1e-3)
    table = pd.read_csv(place / "tables/simsekli2019_mnist.csv")
    assert table.n.tolist() == [2] * 4
    assert planned(folder, *OVERLAY) == {}


def test_what_changed_is_done_again_and_nothing_else(finished):
    folder, _ = finished
    paper = folder / "papers/simsekli2019.yaml"
    text, times = paper.read_text(), paper.stat().st_mtime_ns
    cell = "      cells: # also in the table of iterations\n"
    assert cell in text
    paper.write_text(text.replace(cell, f"{cell}        mnist-linear_hinge-d2-w8: {{lr: 0.05}}\n"))
    jobs = planned(folder, *OVERLAY)
    assert {name: jobs.pop(name) for name in ("train_seeds", "measure_seeds")} == {"train_seeds": 1, "measure_seeds": 1}
    assert set(jobs) <= REPORTED
    paper.write_text(text)
    assert paper.stat().st_mtime_ns > times
    assert planned(folder, *OVERLAY) == {}
    # Another seed makes another job for each run.
    assert planned(folder, *OVERLAY, "--config", "seeds=[0,1,2]")["train_seeds"] == 4
