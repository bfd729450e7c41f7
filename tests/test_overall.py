"""How far a whole workflow is: its books, by hand, and its lines, as Snakemake runs."""

import os
import re
import subprocess
import sys

import pytest
from conftest import copy_with
from test_workflow import TINY

from whysgd import overall
from whysgd.config import load_config
from whysgd.errors import UserError
from whysgd.overall import MOST, PRIOR, Job, Listener, Overall, span, weighed

LINE = re.compile(
    r"whysgd: (?P<trained>\d+) of (?P<networks>\d+) networks trained, (?P<measured>\d+) measured; "
    r"(?:(?P<share>\d+) % of the work, about (?P<left>.+) left|all done in (?P<took>.+))"
)


def networks(*names):
    return frozenset(("paper", name, 0) for name in names)


def books(begun=0.0) -> Overall:
    """Four networks of 100 s, one trained and measured before, in three jobs; three measuring jobs; a figure."""
    return Overall(
        {
            "before 0": Job(100.0, trains=networks("a"), done=True),
            "before 1": Job(10.0, measures=networks("a"), done=True),
            1: Job(100.0, trains=networks("b")),
            2: Job(200.0, trains=networks("c", "d")),
            3: Job(10.0, measures=networks("b")),
            4: Job(10.0, measures=networks("c", "d")),
            5: Job(10.0, measures=networks("d")),
            6: Job(1.0),
        },
        begun,
    )


def test_networks_are_counted_when_all_of_their_jobs_have_ended():
    found = books()
    assert {k: found.state(0.0)[k] for k in ("networks", "trained", "measured")} == {
        "networks": 4, "trained": 1, "measured": 1,
    }  # fmt: skip
    found.start(2, 0.0)
    found.finish(2, 200.0)
    assert found.state(200.0)["trained"] == 3
    found.finish(4, 210.0)
    # d has a job left.
    assert found.state(210.0)["measured"] == 2
    found.finish(5, 220.0)
    assert found.state(220.0)["measured"] == 3
    assert found.line(220.0).startswith("whysgd: 3 of 4 networks trained, 3 measured; ")
    for number in (1, 3, 6):
        assert not found.finished
        found.finish(number, 300.0)
    assert found.finished
    assert found.line(360.0) == "whysgd: 4 of 4 networks trained, 4 measured; all done in 6 min"


def test_a_running_job_counts_in_part_and_never_as_done():
    found = books()
    share = [found.state(0.0)["share"]]
    found.start(1, 0.0)
    share += [found.state(now)["share"] for now in (20.0, 60.0, 95.0, 500.0, 5000.0)]
    assert share == sorted(share)
    assert share[1] == pytest.approx((110 + 20) / 441)
    assert share[-1] == share[-2] == pytest.approx((110 + MOST * 100) / 441)
    found.fail(1, 5001.0)
    assert found.state(5001.0)["share"] == share[0]


def test_time_left_decreases_and_follows_what_jobs_really_take():
    found, now, left = books(), 0.0, []
    # Everything takes half of what was predicted, one job after another.
    for number in (1, 2, 3, 4, 5, 6):
        found.start(number, now)
        left.append(found.state(now)["left"])
        now += found.jobs[number].seconds / 2
        found.finish(number, now)
        if number == 2:
            assert found.pace() == pytest.approx(315 / 165)
            assert found.state(now)["left"] == pytest.approx(31 / 2, rel=0.25)
    assert left == sorted(left, reverse=True)
    assert found.state(now)["left"] == 0


def test_two_side_by_side_take_half_the_time_but_not_less_than_the_longest():
    found = books()
    found.start(1, 0.0)
    alone = found.state(0.0)["left"]
    found.start(2, 0.0)
    assert found.side_by_side == 2
    both = found.state(0.0)["left"]
    assert alone == pytest.approx(331, rel=0.01)
    # 331 s of work in two lanes are 165 s, but one job takes 200 s.
    assert both == pytest.approx(200)


def test_jobs_that_were_not_predicted_well_cannot_blow_up_the_estimate():
    found = books()
    found.start(3, 0.0)
    found.finish(3, 1e6)
    assert found.pace() == pytest.approx((10 + PRIOR) / (1e6 + PRIOR), abs=0.06)
    found.start("a group", 1e6)
    found.finish("a stranger", 1e6)
    assert found.state(1e6)["left"] > 0


def test_spans_are_short():
    assert [span(seconds) for seconds in (0.2, 42.4, 150, 7000, 300_000)] == [
        "1 s",
        "42 s",
        "2 min",
        "1 h 57 min",
        "3.5 days",
    ]


def test_jobs_weigh_what_their_outputs_are_predicted_to_take():
    config = load_config()
    run = "results/mini/runs/geiping2022"
    measures = [f"results/mini/measures/geiping2022/fb/seed-0/{name}.json" for name in config["measures"]]
    training, long, both, half, whole, part, figure, target = weighed(
        [
            [f"{run}/fb/seed-0/metrics.json", f"{run}/fb/seed-0/history.csv"],
            [f"{run}/fb-strong-reg/seed-0/metrics.json"],
            [f"{run}/fb/seed-0/metrics.json", f"{run}/fb/seed-1/metrics.json"],
            measures[:3], measures,
            ["results/mini/landscapes/geiping2022/fb/seed-0/plane_0-of-2.csv"],
            ["results/mini/figures/x.svg"], [],
        ],
        config,
    )  # fmt: skip
    assert training.trains == {("geiping2022", "fb", 0)}
    assert long.seconds > 5 * training.seconds
    assert both.seconds == pytest.approx(2 * training.seconds)
    assert half.measures == whole.measures == {("geiping2022", "fb", 0)}
    assert 0 < half.seconds < whole.seconds
    assert part.seconds > 0
    assert not part.trains | part.measures
    assert (figure.seconds, target.seconds) == (1.0, 0.0)


def test_a_workflow_goes_on_without_predictions(monkeypatch, capsys):
    def refuse(*_):
        raise UserError("config/speeds.json: no such file")

    monkeypatch.setattr(overall, "weighed", refuse)
    listener = Listener(None, {}, 0.1)
    listener._run([1], [["x"]], 0.0)
    assert capsys.readouterr().err == "whysgd: no progress is shown: config/speeds.json: no such file\n"
    listener.close()


@pytest.mark.workflow
def test_a_running_workflow_says_how_far_it_is(tmp_path):
    world = {**TINY, "measures": ["accuracy_gap"], "tensorboard": True}
    world["scales"] = {"tiny": {**TINY["scales"]["tiny"], "measuring": {"together": True}}}
    folder = copy_with(tmp_path / "project", world)
    runs = ["sgd", "fb", "fb-long", "fb-clip", "fb-reg"]
    trained = [f"results/tiny/runs/geiping2022/{run}/seed-0/metrics.json" for run in runs]
    measured = [f"results/tiny/measures/geiping2022/{run}/seed-0/accuracy_gap.json" for run in runs]

    def snakemake(*arguments, seconds="0.2"):
        command = [sys.executable, "-m", "snakemake", *arguments, "--cores", "2", "--configfile", "tiny.yaml"]
        environment = {**os.environ, "PYTHONPATH": str(folder), "WHYSGD_PROGRESS_SECONDS": seconds}
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        return done, [match for line in done.stderr.splitlines() if (match := LINE.fullmatch(line))]

    done, lines = snakemake(*measured, "-n")
    assert (done.returncode, lines) == (0, [])
    done, lines = snakemake(*trained[:2], "--quiet", "progress")
    assert (done.returncode, lines) == (0, [])
    done, lines = snakemake(*measured, "--quiet", "rules", "host")
    assert done.returncode == 0, done.stderr
    counts = [[int(line[key]) for key in ("trained", "measured")] for line in lines]
    assert {int(line["networks"]) for line in lines} == {5}
    # Two were trained before.
    assert counts[0][0] >= 2
    assert len(lines) > 3
    assert counts == sorted(counts)
    shares = [int(line["share"]) for line in lines if line["share"]]
    assert shares == sorted(shares)
    # The last line says that all is done, once.
    assert [line["took"] is not None for line in lines] == [False] * (len(lines) - 1) + [True]
    assert counts[-1] == [5, 5]
    # The switch reaches the jobs.
    assert len(list(folder.glob("results/tiny/runs/*/*/*/tensorboard/events.out.*"))) == 5
    done, _ = snakemake(*measured, seconds="soon")
    assert done.returncode == 1
    assert "error: WHYSGD_PROGRESS_SECONDS = 'soon': must be a number of seconds" in done.stderr
    assert "Traceback" not in done.stderr
