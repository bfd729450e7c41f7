"""Whether a record can be had again: each verdict, at which step a difference begins, and how large it is."""

from copy import deepcopy

import pandas as pd
import pytest
from conftest import folder_of, make_dataset, make_spec, python, sealed, with_seeds

from whysgd.__main__ import main
from whysgd.measures.run import load_runs, measure_batch
from whysgd.results.paths import NORMS
from whysgd.results.record_model import read_record
from whysgd.results.records import FIRST_STEPS, records_of, write_records
from whysgd.results.verify import ANOTHER, EARLY, OF_START, ROUNDING, SAME_BITS, compared
from whysgd.study.spec import NoiseProbe
from whysgd.training.loop import train

# A batch of two seeds with two measures, by a script, so that a process of another instruction set can run it.
SCRIPT = """
import sys
sys.path[:0] = ["tests"]
from pathlib import Path
from test_verify import make_records
make_records(Path(sys.argv[1]))
"""


def make_records(folder):
    plain = {"model": "fc_d2_w8", "batch": 5, "lr": 0.05, "penalty": None, "clip": None}
    spec = make_spec(**plain, epochs=5, evaluations=12, noise=NoiseProbe(points=4))
    data, run = folder_of(make_dataset(), folder / "data"), folder / "run"
    train(with_seeds(spec, 3, 4), data, run)
    measure_batch(["accuracy_gap", "fisher"], load_runs(run, data), run / "measures/all.json", {})
    return write_records([run], run / "measures", folder / "records")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("verified")
    return folder, make_records(folder)


@pytest.fixture
def record(recorded):
    """A record, as it is read and with whole tables."""
    folder, _ = recorded
    return deepcopy(records_of(folder / "run")[0])


def test_what_is_compared_is_there(record):
    assert {"history", "norms", "noise", "layers", "noise_norms"} < set(record)
    assert set(record["measures"]) == {"accuracy_gap", "fisher"}


def elsewhere(record):
    """The same record, of a machine with another instruction set."""
    other = deepcopy(record)
    other["metrics"]["machine"]["instruction_set"] = "none"
    return other


def shifted(record, factor, step=1, accuracy=0.0):
    """A copy whose norms are scaled from a step on, with other weights and another accuracy at the end."""
    other = deepcopy(record)
    other["metrics"]["weights_sha256"] = "others"
    other["metrics"]["final"]["test_accuracy"] += accuracy
    norms = other["norms"]["gradient_norm"]
    norms[step - 1 :] = [norm * factor for norm in norms[step - 1 :]]
    return other


def test_the_same_machine_gives_the_same_bits_and_one_line_each(recorded, capsys):
    folder, files = recorded
    assert main(["verify", *map(str, files), "--data", str(folder / "data"), "--device", "cpu"]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split("  ")[0] == "record"
    assert len(rows) == 2
    for row, file in zip(rows, files, strict=True):
        assert row.startswith(str(file))
        assert f"  {SAME_BITS}  " in row
        assert "  same kind  " in row
        assert "  none  " in row
        assert len(row) - len(str(file)) < 130


def test_the_first_steps_alone_are_verified_without_the_end(recorded, tmp_path, capsys):
    folder, files = recorded
    command = ["--data", str(folder / "data"), "--device", "cpu", "--first-steps"]
    assert main(["verify", *map(str, files), *command]) == 0
    for row in capsys.readouterr().out.splitlines()[1:]:
        assert row.split("  ", 1)[1].split() == [*OF_START[SAME_BITS].split(), "same", "kind", "none", "–", "–"]
    # A norm of step 16 counts, the end does not.
    record = read_record(files[0])
    record["metrics"]["final"]["test_accuracy"] = 1.5
    wrong = tmp_path / "mini/geiping2022/test" / files[0].name
    wrong.parent.mkdir(parents=True)
    for code, first in ((0, "none"), (1, "step 16, by 5.0e-01")):
        wrong.write_text(sealed(record))
        assert main(["verify", str(wrong), *command]) == code
        assert f"  {first}  " in capsys.readouterr().out.splitlines()[1]
        record["norms"]["gradient_norm"][15] *= 2


PHASE = {"epochs": 20, "switch": ({"at": 2, "to": "all"},)}
ENDS = {"at step 8": {"epochs": 2}, "by divergence": {"lr": 1e30}, "of its first phase": PHASE}


@pytest.mark.parametrize("settings", ENDS.values(), ids=ENDS)
def test_an_end_among_the_first_steps_is_verified(settings, tmp_path, capsys):
    spec = make_spec(model="fc_d2_w8", batch=5, penalty=None, clip=None, **{"epochs": 5, **settings})
    data = folder_of(make_dataset(), tmp_path / "data")
    train(with_seeds(spec, 3, 4), data, tmp_path / "run")
    *_, file = write_records([tmp_path / "run"], None, tmp_path / "records")
    command = ["verify", str(file), "--data", str(data), "--device", "cpu", "--first-steps"]
    assert main(command) == 0
    assert f"  {OF_START[SAME_BITS]}  " in capsys.readouterr().out.splitlines()[1]
    record = read_record(file)
    assert (record["metrics"]["steps"] <= FIRST_STEPS) == ("switch" not in settings)
    record["metrics"] |= {"steps": 5, "status": "finished"}
    file.write_text(sealed(record))
    assert main(command) == 1


def test_a_run_that_takes_the_norms_of_another_is_trained_after_it(tmp_path, capsys):
    small = make_spec(run="small", model="fc_d2_w8", batch=5, penalty=None, clip=None, epochs=2)
    graft = small.replace(run="graft", transform={"name": "exter_graft", "reference": "small"})
    data, runs, records = folder_of(make_dataset(), tmp_path / "data"), tmp_path / "runs", tmp_path / "records"
    # The norms of seed 4 are of a batch of its own, whose number lies between those of the other one.
    for number, seeds in enumerate([(3, 5), (4,)]):
        train(with_seeds(small, *seeds), data, runs / f"small-{number}")
    log = pd.concat([pd.read_csv(runs / f"small-{number}" / NORMS, dtype=str) for number in (0, 1)])
    log.to_csv(tmp_path / "norms.csv", index=False)
    train(with_seeds(graft, 3, 4), data, runs / "graft", norms=[tmp_path / "norms.csv"])
    *_, reference, _, file = write_records([runs / "small-0", runs / "small-1", runs / "graft"], None, records)
    command = ["verify", str(file), "--data", str(data), "--device", "cpu"]
    assert main(command) == 0
    assert f"  {SAME_BITS}  " in capsys.readouterr().out.splitlines()[1]
    assert main([*command, "--first-steps"]) == 1
    assert "takes the gradient norms of small, of all steps; leave out --first-steps" in capsys.readouterr().err
    reference.unlink()
    assert main(command) == 1
    assert f"error: {file}: takes the gradient norms of small, and there is no {reference}" in capsys.readouterr().err


def test_another_instruction_set_is_another_kind_of_machine_and_gives_the_same_within_rounding(tmp_path, capsys):
    python("-c", SCRIPT, tmp_path, ATEN_CPU_CAPABILITY="default")
    file = tmp_path / "records/mini/geiping2022/test/seed-3.json"
    assert main(["verify", str(file), "--data", str(tmp_path / "data"), "--device", "cpu"]) == 0
    row = capsys.readouterr().out.splitlines()[1]
    assert "another instruction set" in row
    assert ROUNDING in row or SAME_BITS in row
    assert main(["verify", str(file), "--data", str(tmp_path / "data"), "--device", "cpu", "--first-steps"]) == 0
    row = capsys.readouterr().out.splitlines()[1]
    assert "another instruction set" in row
    assert any(verdict in row for verdict in OF_START.values())


def test_numbers_that_nobody_can_have_again_end_with_code_1(recorded, tmp_path, capsys):
    folder, (_, file) = recorded
    record = records_of(folder / "run")[1]
    record["metrics"]["final"]["test_accuracy"] = 1.5
    wrong = tmp_path / "mini/geiping2022/test" / file.name
    wrong.parent.mkdir(parents=True)
    wrong.write_text(sealed(record))
    assert main(["verify", str(wrong), "--data", str(folder / "data"), "--device", "cpu"]) == 1
    row = " ".join(capsys.readouterr().out.splitlines()[1].split())
    assert f" {ANOTHER} same kind final.test_accuracy 1.50 → " in row


def test_on_the_same_kind_of_machine_the_last_bit_counts(record):
    for other in (shifted(record, 1 + 1e-5, 7), deepcopy(record)):
        if other["metrics"] == record["metrics"]:
            other["measures"]["fisher"]["quantities"]["fisher_trace"]["value"] *= 1 + 1e-12
        found = compared(record, other, [90.0, 91.0])
        assert found["verdict"] == ANOTHER
    assert found["measures"].startswith("1 differ, fisher.fisher_trace.value by 1.0e-12")


# By what factor norms differ, from which step on, and by how many deviations the accuracy at the end.
ELSEWHERE = {
    "rounding": (1 + 1e-6, 2, 0.0, ROUNDING, "step 2, by 1.0e-06"),
    "rounding that grows late": (1.5, EARLY + 1, 2.5, ROUNDING, f"step {EARLY + 1}, by 3.3e-01"),
    "another beginning": (1 + 1e-2, EARLY, 0.0, ANOTHER, f"step {EARLY}, by 9.9e-03"),
    "another end": (1 + 1e-6, 2, 3.5, ANOTHER, "step 2, by 1.0e-06"),
}  # fmt: skip


@pytest.mark.parametrize(("factor", "step", "deviations", "verdict", "first"), ELSEWHERE.values(), ids=ELSEWHERE)
def test_elsewhere_the_beginning_and_the_end_are_judged(record, factor, step, deviations, verdict, first):
    end = record["metrics"]["final"]["test_accuracy"]
    # A standard deviation of 30, above that of eleven test images.
    seeds = [end - 30, end, end + 30]
    other = shifted(record, factor, step, 30 * deviations)
    found = compared(elsewhere(record), other, seeds)
    assert (found["verdict"], found["first difference"]) == (verdict, first)
    assert "(± 90.00)" in found["test accuracy [%]"]


@pytest.mark.parametrize(("units", "verdict"), [(1, ROUNDING), (-1, ROUNDING), (2, ANOTHER)])
def test_elsewhere_neighbours_in_the_last_kept_digit_are_rounding(record, units, verdict):
    record["noise"]["tail_index"][0] = 1.281
    other = deepcopy(record)
    other["metrics"]["weights_sha256"] = "others"
    other["noise"]["tail_index"][0] = round(1.281 + units * 1e-3, 3)
    assert compared(elsewhere(record), other, [90.0])["verdict"] == verdict
    assert compared(record, other, [90.0])["verdict"] == ANOTHER


def test_elsewhere_measures_of_the_same_weights_are_judged_alone(record):
    for factor, verdict in ((1 + 1e-6, ROUNDING), (1.1, ANOTHER)):
        other = deepcopy(record)
        other["measures"]["fisher"]["quantities"]["fisher_trace"]["value"] *= factor
        assert compared(elsewhere(record), other, [90.0])["verdict"] == verdict


def test_a_difference_at_the_start_is_one(record):
    other = deepcopy(record)
    assert other["noise"]["step"][0] == 0
    other["noise"]["tail_index"][0] *= 2
    found = compared(record, other, [90.0])
    assert (found["verdict"], found["first difference"]) == (ANOTHER, "step 0, by 5.0e-01")
