"""Tables and figures from records: the numbers of the runs, said to be from records, and older code marked as such."""

import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml
from conftest import ROOT, error_of, one_line, run, sealed
from miniature import OVERLAY, copied, dry_run, snakemake

from whysgd.errors import UserError
from whysgd.files import read_json, write_json
from whysgd.report.record_frames import read_record_frames
from whysgd.results.record_model import read_record
from whysgd.results.recorded import is_current, older_training, with_records
from whysgd.study.codedigest import training_code
from whysgd.study.config import load_config
from whysgd.study.papers import expand
from whysgd.study.spec import RunSpec

pytestmark = pytest.mark.workflow
FROM_RECORDS = [*OVERLAY, "--config", "from=records", "papers=[geiping2022,simsekli2019]"]
TAIL = {"tail_index": {"micro_batch": 16}}
MADE = "results/recorded/tiny"
ODD_DIGEST = "0123456789abcdef"


@pytest.fixture(scope="module")
def recorded(miniature, tmp_path_factory):
    """A project with records of what it trained, two papers of which are made from them; nothing else is left."""
    folder = copied(miniature, tmp_path_factory.mktemp("recorded") / "project")
    run(["whysgd", "record", *sorted(folder.glob("results/tiny/runs/*/*/*"))], folder)
    shutil.move(folder / "results/tiny", folder / "trained")
    shutil.rmtree(folder / "results")
    snakemake(folder, *FROM_RECORDS)
    return folder


def rewrite(file, change):
    """Change a record by a function, and its checksums so that they fit."""
    record = read_json(file)
    change(record)
    file.write_text(sealed(record))


def test_tables_claims_and_measures_from_records_are_those_of_the_training(recorded):
    files = [file for kind in ("tables", "claims") for file in (recorded / MADE / kind).glob("*.csv")]
    assert len(files) == 5
    for file in files:
        first, second = pd.read_csv(recorded / "trained" / file.relative_to(recorded / MADE)), pd.read_csv(file)
        pd.testing.assert_frame_equal(first, second, check_exact=False, rtol=1e-9, check_dtype=False)
    for name in ("tidy", "runs"):
        first, second = (pd.read_csv(recorded / place / f"measures/{name}.csv") for place in ("trained", MADE))
        first = first[first.paper.isin(second.paper)]
        keys = ["paper", "run", "seed", *(["quantity"] if name == "tidy" else [])]
        first, second = (frame.sort_values(keys).reset_index(drop=True) for frame in (first, second))
        same = [column for column in first if column in second and column not in ("seconds", "cpu_seconds")]
        pd.testing.assert_frame_equal(first[same], second[same], rtol=1e-9, check_dtype=False)


def test_every_figure_and_the_page_are_there_and_say_that_they_are_from_records(recorded):
    places = recorded / "trained/figures", recorded / MADE / "figures"
    trained, made = ({file.name for file in place.glob("*.svg")} for place in places)
    assert made == {name for name in trained if name.split("_")[0] in ("geiping2022", "simsekli2019", "measures")}
    assert len(made) == 10
    for file in recorded.glob(f"{MADE}/tables/*.md"):
        assert re.search(r"Measured: scale tiny, from records: ", file.read_text()), file
    assert "from records" not in "".join(file.read_text() for file in recorded.glob("trained/tables/*.md"))
    page = (recorded / MADE / "index.html").read_text()
    assert "from records" in page
    assert "<dt>Recorded</dt>" in page
    assert "Measured here" not in page
    assert '"file":"../../../records/tiny/geiping2022/fb/seed-0.json"' in page
    assert "from records" in (recorded / MADE / "figures/geiping2022_main_landscape.svg").read_text()


def test_nothing_is_trained_or_measured_and_a_second_run_has_nothing_to_do(recorded):
    assert [file.name for file in (recorded / "results").iterdir()] == ["recorded"]
    assert "Nothing to be done" in dry_run(recorded, *FROM_RECORDS)[1]


def test_histories_are_those_of_the_runs_in_short(recorded):
    histories = pd.read_csv(recorded / MADE / "frames/geiping2022_histories.csv")
    full = pd.read_csv(recorded / "trained/frames/geiping2022_histories.csv")
    both = histories.merge(full, on=["run", "seed", "step", "epoch"], suffixes=("", "_full"))
    assert len(both) == len(histories) > 20
    for column in ("test_accuracy", "step_loss", "gradient_norm"):
        assert both[column].to_numpy() == pytest.approx(both[f"{column}_full"].to_numpy(), rel=1e-5, nan_ok=True)


def test_what_has_no_record_or_one_of_other_settings_or_older_code_is_said(recorded, tmp_path):
    folder = copied(recorded, tmp_path / "project")
    records = folder / "records/tiny"
    shutil.rmtree(records / "geiping2022/fb-strong-reg")
    shutil.rmtree(records / "simsekli2019/mnist-linear_hinge-d2-w8")
    paper = folder / "papers/geiping2022.yaml"
    clip = "fb-clip: {epochs: 3000, lr: 0.4, clip: 0.25}"
    assert clip in paper.read_text()
    paper.write_text(paper.read_text().replace(clip, clip.replace("0.25", "0.2")))
    rewrite(records / "geiping2022/fb-reg/seed-1.json", lambda record: record["metrics"].update(code_digest=ODD_DIGEST))
    file = records / "simsekli2019/mnist-linear_hinge-d2-w4/seed-1.json"
    rewrite(file, lambda record: record["measures"]["tail_index"].update(code_digest=ODD_DIGEST))
    names = ("tables/{0}_main", "tables/{1}_mnist", "claims/{0}", "claims/{1}", "measures/table", "measures/summary")
    names = [name.format("geiping2022", "simsekli2019") for name in names]
    done = snakemake(folder, *(f"{MADE}/{name}.md" for name in names), *FROM_RECORDS)
    assert "2 records are of other settings than their runs have now, and left out: " in done.stderr
    table, grid, claims, *rest = ((folder / MADE / f"{name}.md").read_text() for name in names)
    none, some = "no record of it", "1 of 2 trained by older code"
    for name, word in (("fb-clip", none), ("fb-strong-reg", none), ("fb-reg", some)):
        assert word in next(line for line in table.splitlines() if f"| {name} " in line)
    assert "from records (1 of 6 runs trained by older code)" in table
    assert "“…” has no record yet" in grid
    assert re.search(r"\|\s+… \|", grid)
    # A claim about a row without a record is still there, undecided.
    verdicts = pd.read_csv(folder / MADE / "claims/geiping2022.csv").set_index("id")
    assert verdicts.verdict["g3"] == "undetermined"
    assert "fb-strong-reg" in verdicts.evidence["g3"]
    assert "measured by older code" not in claims
    for text, runs in zip(rest, (4, 10, 10), strict=True):
        assert f"1 of {runs} runs measured by older code" in text


def test_records_of_older_code_are_marked_until_it_is_known_to_give_the_same(recorded, tmp_path):
    root = shutil.copytree(recorded / "records", tmp_path / "records")
    files = sorted((root / "tiny/geiping2022").glob("fb*/*.json"))
    assert not read_record_frames(files, TAIL, root)[0].older.any()
    rewrite(files[0], lambda record: record["metrics"].update(code_digest=ODD_DIGEST))
    runs, _, measures = read_record_frames(files, TAIL, root)
    assert runs.older.tolist() == [True] + [False] * (len(files) - 1)
    assert not measures.older.any()
    spec = RunSpec.from_dict(read_record(files[0])["metrics"]["settings"])
    today, between = training_code(spec), "fedcba9876543210"
    same = {ODD_DIGEST: {"same_as": between, "seen": "so"}, between: {"same_as": today, "seen": "so"}}
    (root / "same_results.yaml").write_text(yaml.safe_dump(same))
    other = shutil.copytree(root, tmp_path / "other")  # What was read is remembered by folder.
    assert is_current(ODD_DIGEST, today, other)
    assert is_current(today, today, other)
    assert not is_current("1111111111111111", today, other)
    assert not read_record_frames(files, TAIL, other)[0].older.any()


def test_measures_with_other_options_and_runs_on_other_data_are_not_mixed_in(recorded, tmp_path, capsys):
    root = shutil.copytree(recorded / "records", tmp_path / "records")
    files = sorted((root / "tiny/geiping2022").glob("fb*/*.json"))
    count = len(read_record_frames(files, TAIL, root)[2])
    assert count == len(files) * read_record_frames(files, TAIL, root)[2].quantity.nunique()
    assert read_record_frames(files, {"tail_index": {"micro_batch": 8}}, root)[2].empty
    assert "tail_index was measured with other options, and is left out" in capsys.readouterr().err
    rewrite(files[1], lambda record: record["metrics"]["data"].update(sha256=64 * "0"))
    with one_line(r"seed-1\.json: was trained on other data than .*seed-0\.json"):
        read_record_frames(files, TAIL, root)


def test_papers_and_seeds_without_records_are_left_out_with_a_word(recorded, tmp_path, capsys):
    root = shutil.copytree(recorded / "records/tiny", tmp_path / "tiny").parent
    for run_ in ("simsekli2019", "geiping2022/fb-reg"):
        shutil.rmtree(root / "tiny" / run_)

    def found(*seeds):
        settings = {"papers": ["geiping2022", "simsekli2019"], "seeds": list(seeds)}
        return with_records(load_config([recorded / "tiny.yaml"], settings), root)

    config = found(1, 7)
    assert config["papers"] == ["geiping2022"]
    assert config["left_out"] == ["no record of simsekli2019 at this scale: left out"]
    seeds = {run: list(own) for run, own in config["recorded"]["geiping2022"].items() if own}
    assert seeds == {name: [1] for name in ("sgd", "fb", "fb-clip", "fb-strong-reg")}
    with one_line(r"no record of geiping2022, simsekli2019 with seeds \[7\]"):
        found(7)
    other = read_json(recorded / "records/tiny/geiping2022/fb/seed-0.json")["metrics"]["settings"]
    write_json(tmp_path / "mini/geiping2022/fb/seed-0.json", {"metrics": {"settings": other}})
    with one_line("no record of geiping2022; 1 are of other settings"):
        with_records(load_config(settings={"papers": ["geiping2022"]}), tmp_path)
    (tmp_path / "records.yaml").write_text("from: records\n")
    line = error_of(capsys, "plan", "--configfile", tmp_path / "records.yaml")
    assert line == "error: from = 'records': is for Snakemake alone; allowed here: training"


def test_a_damaged_record_stops_the_run_with_its_path(recorded, tmp_path):
    folder = copied(recorded, tmp_path / "project")
    file = folder / "records/tiny/geiping2022/fb-reg/seed-1.json"
    file.write_text(file.read_text().replace('"test_accuracy":', '"test_accuracy": 1', 1))
    done = snakemake(folder, *FROM_RECORDS, check=False)
    assert done.returncode == 1
    assert "geiping2022/fb-reg/seed-1.json: " in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


ODD = {
    "another place": ({}, r"fb/seed-1\.json: is the record of tiny/geiping2022/fb-reg/seed-1\.json"),
    "measures that are none": ({"measures": None}, "not a record|measures"),
    "settings that are none": ({"metrics": {"settings": {"nonsense": 1}}}, "metrics: "),
}


@pytest.mark.parametrize(("change", "message"), ODD.values(), ids=ODD.keys())
def test_an_odd_record_is_named_with_what_is_wrong(recorded, tmp_path, change, message):
    file = tmp_path / "tiny/geiping2022/fb/seed-1.json"
    file.parent.mkdir(parents=True)
    shutil.copy(recorded / f"records/tiny/geiping2022/{'fb' if change else 'fb-reg'}/seed-1.json", file)
    rewrite(file, lambda record: record.update(change))
    with pytest.raises(UserError, match=message) as caught:
        read_record(file)
    assert all(line.startswith(str(file)) for line in str(caught.value).splitlines())


WORLDS = {"mini": [], "small": ["small"], "paper": ["paper", "cpu"]}


@pytest.mark.parametrize(("scale", "overlays"), WORLDS.items())
def test_the_records_of_the_repository_are_of_todays_runs(scale, overlays):
    config = with_records(load_config([ROOT / f"config/{name}.yaml" for name in overlays]), ROOT / "records")
    specs = expand(config)
    files = {config["recorded"][paper][name][seed][0] for paper, name, seed in specs}
    assert {Path(file).resolve() for file in files} == set((ROOT / "records" / scale).glob("*/*/*.json")) != set()
    for (paper, name, seed), spec in specs.items():
        metrics = read_json(config["recorded"][paper][name][seed][0])["metrics"]
        assert spec == RunSpec.from_dict(metrics["settings"])
        assert not older_training(metrics, ROOT / "records")
