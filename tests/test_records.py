import csv
import json
import shutil
from importlib.metadata import version

import pandas as pd
import pytest
from conftest import ROOT, error_of, folder_of, make_dataset, make_spec, one_line, sealed, with_seeds

from whysgd.__main__ import main
from whysgd.files import digest_of, read_json, write_json
from whysgd.measures.landscape_part import landscape_of
from whysgd.measures.run import load_runs, measure_batch
from whysgd.results import records
from whysgd.results.metrics import read_metrics
from whysgd.results.paths import landscape_folder, measures_folder, record_file, run_folder
from whysgd.results.record_model import read_record
from whysgd.results.records import LINES, as_text, records_of, write_records
from whysgd.study.spec import NoiseProbe, RunSpec
from whysgd.training.loop import train


@pytest.fixture
def finished(tmp_path, monkeypatch):
    """Two finished seeds of a run that measures its gradient noise, with two measures, where the workflow puts them."""
    monkeypatch.chdir(tmp_path)
    noise = {"evaluations": 100, "noise": NoiseProbe(points=4)}
    spec = make_spec(model="fc_d2_w4", batch=5, penalty=None, clip=None, epochs=20, **noise)
    data, run = folder_of(make_dataset(), tmp_path / "data"), run_folder("mini", "geiping2022", "test") / "seeds-3-4"
    train(with_seeds(spec, 3, 4), data, run)
    folder = measures_folder("mini", "geiping2022", "test", [3, 4])
    options = {"tail_index": {"micro_batch": 5}}
    measure_batch(["accuracy_gap", "tail_index"], load_runs(run, data), folder / "all.json", options)
    return run, folder


def test_a_record_has_what_was_measured_and_is_small(finished):
    run, measures = finished
    paths = write_records([run])
    assert [path.as_posix() for path in paths] == [f"records/mini/geiping2022/test/seed-{n}.json" for n in (3, 4)]
    assert [read_json(path) for path in paths] == records_of(run, measures)
    for path, metrics in zip(paths, read_metrics(run / "metrics.json"), strict=True):
        assert path.stat().st_size < 20_000
        record = read_record(path)
        assert record["metrics"] == metrics
        # What the metrics say is not said again in the file, and is there again when it is read.
        every = [one for one in read_json(measures / "all.json") if one["seed"] == metrics["seed"]]
        full = next(one for one in every if one["measure"] == "tail_index")
        read = record["measures"]["tail_index"]
        assert full.pop("versions").items() <= read["versions"].items()
        assert {key: read[key] for key in full} == full
        assert "seed" not in read_json(path)["measures"]["tail_index"]
        assert list(record["measures"]) == ["accuracy_gap", "tail_index"]
        # What decides bits, and the first steps, by which a run that is made again is judged.
        assert set(metrics["machine"]) == {"processor", "instruction_set", "blas", "commit"}
        assert (metrics["threads"], metrics["versions"]["torch"]) == (1, version("torch"))
        with open(run / "gradient_norms.csv", encoding="utf-8") as log:
            lines = [line for line in csv.DictReader(log) if int(line["seed"]) == metrics["seed"]]
            norms = [float(line["gradient_norm"]) for line in lines]
        assert record["norms"]["step"] == list(range(1, 17))
        assert record["norms"]["gradient_norm"] == pytest.approx(norms[:16], rel=1e-5)
        # Every third of the 100 lines, and the last.
        assert record["history"]["step"] == [*range(1, 101, 3)]
        assert len(record["history"]["step"]) <= LINES
        assert record["history"]["step"][-1] == metrics["steps"]
        assert record["history"]["test_accuracy"][-1] == pytest.approx(metrics["final"]["test_accuracy"], rel=1e-5)
        assert record["noise"]["step"][0] == 0
        assert all(0 < alpha < 3 for alpha in record["noise"]["tail_index"])


def test_a_new_record_says_what_it_lacks_of_the_one_before(finished, tmp_path, capsys):
    run, measures = finished
    points = landscape_folder("mini", "geiping2022", "test", [3, 4])
    landscape_of(load_runs(run, tmp_path / "data"), "line", 3, (0, 1), points / "line_0-of-1.csv")
    for path in write_records([run]):
        assert read_record(path)["landscapes"]["line"]["alpha"] == [-1, 0, 1]
    assert capsys.readouterr().err == ""
    part = points / "line_0-of-1.csv"
    whole = part.read_text()
    lost, odd = (whole.replace(",0.0,", other, 1) for other in ("\n", ",0.x,"))
    for damaged, why in ((whole[:-9], "cut short"), (lost, "cut short"), (odd, "0.x")):
        part.write_text(damaged)
        with one_line(rf"line_0-of-1\.csv: not readable \(.*{why}"):
            write_records([run])
    shutil.rmtree(points)
    kept = [one for one in read_json(measures / "all.json") if one["measure"] != "tail_index"]
    write_json(measures / "all.json", kept)
    one, other = write_records([run])
    assert "landscapes" not in read_record(one)
    lost = f"has no line, tail_index any more: {run} has none"
    assert capsys.readouterr().err == f"{one}: {lost}\n{other}: {lost}\n"


def test_seeds_that_end_early_keep_the_steps_of_the_noise_that_the_others_keep():
    steps = [*range(0, 1000, 10), 1000]  # 99 points, the start and the end
    numbers = {"seed": 0, "tail_index": 1.5, "layer": "fc.weight", "weight_norm": 1.0, "gradient_norm": 1.0}
    long, short = (pd.DataFrame({"step": own, **numbers}) for own in (steps, [*steps[:71], 705]))
    for kept, most in ((records._noise, LINES), (records._layers, records.LAYER_STEPS)):
        whole, part = (kept(lines, 101)["step"] for lines in (long, short))
        assert len(whole) <= most
        assert (whole[0], whole[-1], part[0], part[-1]) == (0, 1000, 0, 705)
        assert part[:-1] == [step for step in whole if step <= 700]


def test_a_record_that_was_changed_is_refused(finished):
    path, _ = write_records([finished[0]])
    record = read_record(path)
    record["metrics"]["final"]["test_accuracy"] += 0.5
    path.write_text(as_text(record))
    with one_line(r"seed-3\.json: does not match its checksum"):
        read_record(path)
    path.write_text(json.dumps({"format": 3}))
    with one_line("not a record of format 2"):
        read_record(path)
    no_steps = [{"history": {**step, "test_accuracy": [1.0]}} for step in ({"step": [None]}, {"step": ["a"]}, {})]
    short = {"norms": {**record["norms"], "step": record["norms"]["step"][:-1]}}
    for part, why in (
        (short, "norms: must be columns of one length"), *((one, "history.step: must be whole numbers") for one in no_steps),
    ):  # fmt: skip
        path.write_text(sealed({**record, **part}))
        with one_line(rf"seed-3\.json: {why}"):
            read_record(path)


def test_a_record_of_other_settings_or_a_damaged_one_is_not_replaced(finished):
    run, _ = finished
    first, path = write_records([run])
    record = json.loads(path.read_text())
    settings = {**record["metrics"]["settings"], "lr": 0.3}
    record["metrics"] |= {"settings": settings, "spec_digest": digest_of(settings)}
    other = (sealed(record), rf"is of lr = 0\.3, which {run} has as ")
    for text, why in (other, ('{"format": 1}', "not a record of format 2")):
        path.write_text(text)
        first.write_text(first.read_text() + "\n")
        before = first.read_bytes()
        with one_line(rf"{path}: {why}.*; remove the record to replace it"):
            write_records([run])
        assert (first.read_bytes(), path.read_text()) == (before, text)


def test_a_measure_of_other_settings_is_refused(finished):
    run, measures = finished
    results = read_json(measures / "all.json")
    write_json(measures / "all.json", [{**results[0], "spec_digest": "another"}, *results[1:]])
    with one_line(r"all\.json: is of other settings"):
        write_records([run])


def test_the_command_says_what_it_wrote_and_names_what_is_missing(finished, tmp_path, capsys):
    assert main(["record", str(finished[0]), "--out", str(tmp_path / "kept")]) == 0
    assert "2 written" in capsys.readouterr().out
    assert (tmp_path / "kept/mini/geiping2022/test/seed-3.json").is_file()
    assert "metrics.json: no such file" in error_of(capsys, "record", tmp_path / "nowhere")


def test_the_records_of_the_repository_are_whole_and_in_their_places():
    files = sorted((ROOT / "records").glob("*/*/*/*.json"))
    assert files
    for file in files:
        record = read_record(file)
        spec = RunSpec.from_dict(record["metrics"]["settings"])
        assert record_file(spec.scale, spec.paper, spec.run, spec.seed) == file.relative_to(ROOT / "records")
        assert (spec.run, spec.seed) == (record["metrics"]["run"], record["metrics"]["seed"])
        assert len(record["metrics"]["data"]["sha256"]) == 64
        assert record["metrics"]["code_digest"]
        assert file.stat().st_size < (25_000 if "landscapes" in record else 20_000)
        assert len(record.get("noise", {"step": []})["step"]) <= LINES
