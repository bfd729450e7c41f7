"""Tables and figures from records: the numbers of the runs, said to be from records, and older code marked as such."""

import re
import shutil

import pandas as pd
import pytest
import yaml
from conftest import ROOT, copy_with, run
from test_workflow import OVERLAY, TINY, snakemake

from whysgd.errors import UserError
from whysgd.files import read_json, write_json
from whysgd.report.recorded import read_record_frames
from whysgd.results.metrics import with_checksum
from whysgd.results.recorded import is_current, with_records
from whysgd.results.records import as_text, read_record
from whysgd.study.codedigest import code_digest
from whysgd.study.config import load_config
from whysgd.study.papers import expand, tables_at

pytestmark = pytest.mark.workflow
FROM_RECORDS = [*OVERLAY, "--config", "from=records"]
TAIL = {"tail_index": {"micro_batch": 16}}
# With profiles, planes, histograms of the noise and a measured table beside accuracies.
WORLD = {
    **TINY, "papers": ["geiping2022", "simsekli2019"], "measures": ["accuracy_gap", "tail_index"],
    "scales": {"tiny": {
        **TINY["scales"]["tiny"], "seeds": [0, 1],
        "tables": {"geiping2022": ["main"], "simsekli2019": ["mnist", "iterations"]},
        "grids": {"simsekli2019": {"mnist": {"depth": [2], "width": [4, 8]}}},
        "skip": {"simsekli2019": ["alexnet-cifar10-cross_entropy-ch64", "alexnet-cifar10-linear_hinge-ch64"]},
        "rules_of": {"simsekli2019": {"models": {"*": "same"}, "time_divisor": 2000, "block_divisor": 4}},
        "measuring": {
            "together": True, "tail_index": {"micro_batch": 16}, "gradient_noise": {"micro_batch": 16},
            "landscape": {"line_points": 5, "plane_points": 3, "line_chunks": 2, "plane_chunks": 1, "images": 128},
        },
    }},
}  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A copy of the project whose tiny world was trained and recorded, and then made from its records."""
    folder = copy_with(tmp_path_factory.mktemp("recorded") / "project", WORLD)
    snakemake(folder, *OVERLAY)
    runs = sorted(folder.glob("results/tiny/runs/*/*/*"))
    run(["whysgd", "record", *runs], folder)
    # Nothing of the training is needed.
    shutil.move(folder / "results/tiny", folder / "trained")
    shutil.rmtree(folder / "results/data")
    snakemake(folder, *FROM_RECORDS)
    return folder


def test_tables_claims_and_measures_from_records_are_those_of_the_training(trained):
    compared = 0
    for pattern in ("tables/*.csv", "claims/*.csv", "measures/*.csv"):
        for file in sorted(trained.glob(f"trained/{pattern}")):
            first, second = (pd.read_csv(path) for path in (file, recorded(trained, file)))
            pd.testing.assert_frame_equal(first, second, check_exact=False, rtol=1e-9, check_dtype=False)
            compared += 1
    assert compared >= 7


def recorded(folder, file):
    return folder / "results/recorded/tiny" / file.relative_to(folder / "trained")


def test_every_figure_and_the_page_are_there_and_say_that_they_are_from_records(trained):
    figures = {file.name for file in trained.glob("trained/figures/*.svg")}
    assert figures == {file.name for file in trained.glob("results/recorded/tiny/figures/*.svg")}
    assert len(figures) >= 9
    for file in trained.glob("results/recorded/tiny/tables/*.md"):
        assert re.search(r"^Measured: scale tiny, from records: ", file.read_text(), re.MULTILINE), file
    assert "from records" not in "".join(file.read_text() for file in trained.glob("trained/tables/*.md"))
    page = (trained / "results/recorded/tiny/index.html").read_text()
    assert "from records" in page
    assert "<dt>Recorded</dt>" in page
    assert "Measured here" not in page
    assert '"file":"../../records/tiny/geiping2022/fb/seed-0.json"' in page
    assert "from records" in (trained / "results/recorded/tiny/figures/geiping2022_main_landscape.svg").read_text()


def test_nothing_is_trained_or_measured_and_a_second_run_has_nothing_to_do(trained):
    assert not (trained / "results/data").exists()
    assert not (trained / "results/tiny").exists()
    assert "Nothing to be done" in snakemake(trained, "-n", *FROM_RECORDS).stdout


def test_histories_are_those_of_the_runs_in_short(trained):
    histories = pd.read_csv(trained / "results/recorded/tiny/frames/geiping2022_histories.csv")
    full = pd.read_csv(trained / "trained/frames/geiping2022_histories.csv")
    keys = ["run", "seed", "step", "epoch"]
    both = histories.merge(full, on=keys, suffixes=("", "_full"))
    assert len(both) == len(histories) > 20
    for column in ("test_accuracy", "step_loss", "gradient_norm"):
        assert both[column].to_numpy() == pytest.approx(both[f"{column}_full"].to_numpy(), rel=1e-5, nan_ok=True)


def test_a_row_without_a_record_is_shown_as_such(trained, tmp_path):
    folder = shutil.copytree(trained, tmp_path / "project", symlinks=True)
    shutil.rmtree(folder / "results/records/tiny/geiping2022/fb-clip")
    shutil.rmtree(folder / "results/records/tiny/simsekli2019/mnist-cross_entropy-d2-w8")
    snakemake(
        folder,
        "results/recorded/tiny/tables/geiping2022_main.md",
        "results/recorded/tiny/tables/simsekli2019_mnist.md",
        *FROM_RECORDS,
    )
    (line,) = [
        line
        for line in (folder / "results/recorded/tiny/tables/geiping2022_main.md").read_text().splitlines()
        if "| fb-clip" in line
    ]
    assert "no record of it" in line
    assert (
        "– has no record of this number" in (folder / "results/recorded/tiny/tables/simsekli2019_mnist.md").read_text()
    )


def test_a_record_of_other_settings_is_left_out_with_a_word(trained, tmp_path):
    folder = shutil.copytree(trained, tmp_path / "project", symlinks=True)
    paper = folder / "papers/geiping2022.yaml"
    paper.write_text(
        paper.read_text().replace(
            "fb-clip: {epochs: 3000, lr: 0.4, clip: 0.25}", "fb-clip: {epochs: 3000, lr: 0.4, clip: 0.2}"
        )
    )
    done = snakemake(folder, "results/recorded/tiny/tables/geiping2022_main.csv", *FROM_RECORDS)
    assert "2 records are of other settings than their runs have now, and left out: " in done.stderr
    table = pd.read_csv(folder / "results/recorded/tiny/tables/geiping2022_main.csv")
    assert table[table.note == "no record of it"].row.tolist() == ["fb-clip"]


def edit_record(file, **changes):
    """Change a record's metrics, and what is checked of them."""
    record = read_json(file)
    metrics = {**record["metrics"], **changes}
    metrics = with_checksum({key: value for key, value in metrics.items() if key != "checksum"})
    content = {key: value for key, value in {**record, "metrics": metrics}.items() if key != "checksum"}
    file.write_text(as_text(with_checksum(content)))


def test_records_of_older_code_are_marked_until_it_is_known_to_give_the_same(trained, tmp_path):
    root = shutil.copytree(trained / "results/records", tmp_path / "records")
    files = sorted((root / "tiny/geiping2022").glob("fb*/*.json"))
    assert not read_record_frames(files, TAIL, root)[0].older.any()
    edit_record(files[0], code_digest="0123456789abcdef")
    runs, _, measures = read_record_frames(files, TAIL, root)
    assert runs.older.tolist() == [True] + [False] * (len(files) - 1)
    assert not measures.older.any()
    today = code_digest("whysgd.training.loop")
    entries = ("whysgd.training.loop",)
    (root / "same_results.yaml").write_text(
        yaml.safe_dump(
            {
                "0123456789abcdef": {"same_as": "fedcba9876543210", "seen": "so"},
                "fedcba9876543210": {"same_as": today, "seen": "so"},
            }
        )
    )
    other = shutil.copytree(root, tmp_path / "other")  # What was read is remembered by folder.
    assert is_current("0123456789abcdef", entries, other)
    assert is_current(today, entries, other)
    assert not is_current("1111111111111111", entries, other)
    assert not read_record_frames(files, TAIL, other)[0].older.any()


def test_the_table_says_how_many_are_older(trained, tmp_path):
    folder = shutil.copytree(trained, tmp_path / "project", symlinks=True)
    edit_record(folder / "results/records/tiny/geiping2022/fb-reg/seed-1.json", code_digest="0123456789abcdef")
    snakemake(folder, "results/recorded/tiny/tables/geiping2022_main.md", *FROM_RECORDS)
    text = (folder / "results/recorded/tiny/tables/geiping2022_main.md").read_text()
    assert text.count("1 of 2 trained by older code") == 1
    assert "from records (1 of 14 runs trained by older code)" in text


def test_a_damaged_record_stops_the_run_with_its_path(trained, tmp_path):
    folder = shutil.copytree(trained, tmp_path / "project", symlinks=True)
    file = folder / "results/records/tiny/geiping2022/fb-reg/seed-1.json"
    file.write_text(file.read_text().replace('"test_accuracy":', '"test_accuracy": 1', 1))
    done = snakemake(folder, *FROM_RECORDS, check=False)
    assert done.returncode == 1
    assert "geiping2022/fb-reg/seed-1.json: " in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_a_record_in_another_place_is_refused(trained, tmp_path):
    file = trained / "results/records/tiny/geiping2022/fb-reg/seed-1.json"
    wrong = tmp_path / "tiny/geiping2022/fb/seed-1.json"
    wrong.parent.mkdir(parents=True)
    shutil.copy(file, wrong)
    with pytest.raises(UserError, match=r"fb/seed-1\.json: is the record of tiny/geiping2022/fb-reg/seed-1\.json"):
        read_record(wrong)


def test_without_any_record_there_is_one_line(tmp_path):
    config = load_config(settings={"papers": ["geiping2022"]})
    with pytest.raises(UserError, match=r"from = records: .*mini: no record of geiping2022"):
        with_records(config, tmp_path)
    write_json(tmp_path / "mini/geiping2022/fb/seed-0.json", {"metrics": {"spec_digest": "another"}})
    with pytest.raises(UserError, match="no record of geiping2022; 1 are of other settings"):
        with_records(config, tmp_path)


def test_the_records_of_the_repository_make_the_runs():
    config = with_records(
        load_config([ROOT / "config/paper.yaml", ROOT / "config/mnist.yaml"]), ROOT / "results/records"
    )
    specs = expand(config)
    assert len(specs) >= 80
    assert all(
        spec.digest == read_json(config["recorded"][paper][run][seed][0])["metrics"]["spec_digest"]
        for (paper, run, seed), spec in specs.items()
    )
    planned = {
        row["run"] for table in tables_at(config, "simsekli2019").values() for row in table["rows"] if row["planned"]
    }
    # What has a record without the measure that its table shows has no row.
    left = {
        run: parts
        for run, seeds in config["recorded"]["simsekli2019"].items()
        for _, parts in seeds.values()
        if run not in planned
    }
    assert planned | set(left) == {run for paper, run, _ in specs if paper == "simsekli2019"}
    assert not any("tail_index" in parts for parts in left.values())


def test_a_record_is_verified_by_training_again(trained, tmp_path):
    folder = shutil.copytree(trained, tmp_path / "project", symlinks=True)
    run(["whysgd", "build-dataset", "digits"], folder)
    records = [
        f"results/records/tiny/{name}/seed-0.json"
        for name in ("geiping2022/fb-reg", "simsekli2019/mnist-cross_entropy-d2-w4")
    ]
    done = run(["whysgd", "verify", *records], folder)
    assert done.stdout.count(": every number is the same\n") == 2
    # Another number of a measure, with a checksum that fits.
    record = read_json(folder / records[1])
    quantity = record["measures"]["tail_index"]["quantities"]["tail_index"]
    right, quantity["value"] = quantity["value"], 1.25
    (folder / records[1]).write_text(as_text(with_checksum({k: v for k, v in record.items() if k != "checksum"})))
    record = read_json(folder / records[0])
    final = {**record["metrics"]["final"], "test_accuracy": 1.5}
    edit_record(folder / records[0], final=final)
    done = run(["whysgd", "verify", *records], folder, check=False)
    assert done.returncode == 1
    assert f"{records[0]}: final.test_accuracy: 1.5 → " in done.stdout
    assert f"{records[1]}: tail_index.tail_index.value: 1.25 → {right}" in done.stdout
    assert "error: verify: 2 of 2 records are not what this machine and code give" in done.stderr


def test_what_was_measured_by_older_code_is_said_with_claims_measures_and_on_the_page(trained, tmp_path):
    folder = shutil.copytree(trained, tmp_path / "project", symlinks=True)
    file = folder / "results/records/tiny/simsekli2019/mnist-cross_entropy-d2-w4/seed-1.json"
    record = read_json(file)
    record["measures"]["tail_index"]["code_digest"] = "0123456789abcdef"
    file.write_text(as_text(with_checksum({k: v for k, v in record.items() if k != "checksum"})))
    snakemake(folder, *FROM_RECORDS)
    made = folder / "results/recorded/tiny"
    for name, runs in (
        ("claims/simsekli2019.md", 12),
        ("measures/table.md", 26),
        ("measures/summary.md", 26),
        ("index.html", 26),
    ):
        assert f"(1 of {runs} runs measured by older code)" in (made / name).read_text(), name
    assert "older code" not in (made / "claims/geiping2022.md").read_text()


def test_measures_with_other_options_and_runs_on_other_data_are_not_mixed_in(trained, tmp_path, capsys):
    root = shutil.copytree(trained / "results/records", tmp_path / "records")
    files = sorted((root / "tiny/geiping2022").glob("fb*/*.json"))
    assert len(read_record_frames(files, TAIL, root)[2]) == 3 * len(files)
    assert read_record_frames(files, {"tail_index": {"micro_batch": 8}}, root)[2].empty
    assert "tail_index was measured with other options, and is left out" in capsys.readouterr().err
    record = read_json(files[1])
    edit_record(files[1], data={**record["metrics"]["data"], "sha256": 64 * "0"})
    with pytest.raises(UserError, match=r"seed-1\.json: was trained on other data than .*seed-0\.json"):
        read_record_frames(files, TAIL, root)


def test_papers_and_seeds_without_records_are_left_out_with_a_word(trained, tmp_path):
    folder = shutil.copytree(trained, tmp_path / "project", symlinks=True)
    shutil.rmtree(folder / "results/records/tiny/simsekli2019")
    shutil.rmtree(folder / "results/records/tiny/geiping2022/fb-strong-reg")
    shutil.rmtree(folder / "results/recorded")
    done = snakemake(folder, *OVERLAY, "--config", "from=records", "seeds=[1,7]")
    assert "no record of simsekli2019 at this scale: left out" in done.stderr
    table = pd.read_csv(folder / "results/recorded/tiny/tables/geiping2022_main.csv")
    assert table.n.tolist() == [1, 1, 1, 1, 1, 0, 1]
    # A claim about a row without a record is still there, undecided.
    claims = pd.read_csv(folder / "results/recorded/tiny/claims/geiping2022.csv").set_index("id")
    assert claims.verdict["g3"] == "undetermined"
    assert "fb-strong-reg" in claims.evidence["g3"]
    done = snakemake(folder, *OVERLAY, "--config", "from=records", "seeds=[7]", check=False)
    assert "no record of geiping2022, simsekli2019 with seeds [7]" in done.stderr
    done = run(["whysgd", "run", "--configfile", "tiny.yaml", "--config", "from=records"], folder, check=False)
    assert done.stderr == "error: from = 'records': is for Snakemake alone; allowed here: training\n"


ODD = {
    "measures that are none": ({"measures": None}, "not a record"),
    "settings that are none": ({"metrics": {"settings": {"nonsense": 1}}}, "metrics: "),
}


@pytest.mark.parametrize(("change", "message"), ODD.values(), ids=ODD.keys())
def test_an_odd_record_is_one_line(trained, tmp_path, change, message):
    file = tmp_path / "tiny/geiping2022/fb/seed-0.json"
    file.parent.mkdir(parents=True)
    record = read_json(trained / "results/records/tiny/geiping2022/fb/seed-0.json")
    record["metrics"].pop("checksum")
    for key, value in change.items():
        record[key] = {**record[key], **value} if value else value
    file.write_text(as_text(with_checksum({k: v for k, v in record.items() if k != "checksum"})))
    config = load_config([trained / "tiny.yaml"])
    with pytest.raises(UserError, match=message):
        with_records(config, tmp_path) if change.get("measures", 1) is None else read_record(file)
