"""`whysgd show`: the summary of a scale, a paper, a table, and what it says where nothing is."""

import pytest
from conftest import ROOT, error_of
from frames import runs_frame

from whysgd.__main__ import main
from whysgd.files import write_text

CLAIMS = """id,claim,metric,compares,check,runs,verdict,evidence
g1,"Far, far worse",test_accuracy,difference,a > b,a b,holds,"a - b = +2, claimed > 0; c - d = +1"
g2,Each helps,test_accuracy,difference,a > b,a b,undetermined,
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty project with the results of one paper at the scale mini, and the records of the repository."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "records").symlink_to(ROOT / "records")
    runs = runs_frame({"sgd": [90, 91], "fb": [70, 71]}, diverged=[("fb", 1)]).assign(paper="geiping2022")
    write_text(tmp_path / "results/mini/frames/geiping2022_runs.csv", runs.to_csv(index=False))
    for table in ("main", "fixed_dataset"):
        write_text(tmp_path / f"results/mini/tables/geiping2022_{table}.md", f"the table {table}\n")
    write_text(tmp_path / "results/mini/claims/geiping2022.csv", CLAIMS)
    write_text(tmp_path / "results/mini/claims/geiping2022.md", "the claims\n")
    write_text(tmp_path / "results/recorded/small/tables/geiping2022_main.md", "the recorded table\n")
    return tmp_path


def shown(capsys, *words) -> str:
    assert main(["show", *words]) == 0
    return capsys.readouterr().out


def test_without_a_name_it_prints_the_summary(project, capsys):
    lines = shown(capsys).splitlines()
    assert lines[0] == "Scale mini: digits (5 training and 6 test images), m, on cpu."
    assert lines[1:] == [
        "2 runs, 4 trained networks, 1 diverged.",
        "",
        "geiping2022  g1   holds         Far, far worse",
        "geiping2022  g2   undetermined  Each helps",
        "",
        "geiping2022  g1   a - b = +2, claimed > 0; c - d = +1",
        "",
        "tables:     geiping2022/main, geiping2022/fixed_dataset",
        "print:      whysgd show geiping2022/main or whysgd show geiping2022",
        "results at: mini, recorded/small",
        lines[-1],
    ]
    assert lines[-1].startswith("records at: midi (")
    write_text(project / "results/mini/index.html", "")
    assert "page:       results/mini/index.html, beside tables/ and figures/\n" in shown(capsys)


def test_the_summary_has_three_numbers_from_each_paper_in_turn(project, capsys):
    for paper, verdicts in {"geiping2022": ["fails", "holds", "holds"], "iyer2023": ["undetermined", "holds"]}.items():
        lines = (f"{paper[0]}{n},C,m,difference,a > b,a b,{verdict},{n}" for n, verdict in enumerate(verdicts, start=1))
        write_text(project / f"results/mini/claims/{paper}.csv", "\n".join([CLAIMS.partition("\n")[0], *lines]))
    found = [line.split() for line in shown(capsys).split("\n\n")[2].splitlines()]
    assert found == [["geiping2022", "g1", "1"], ["iyer2023", "i2", "2"], ["geiping2022", "g2", "2"]]


def test_a_paper_or_a_table_is_printed_as_it_lies_there(project, capsys):
    assert shown(capsys, "geiping2022") == "the table main\n\nthe table fixed_dataset\n\nthe claims\n"
    assert shown(capsys, "geiping2022/fixed_dataset", "--scale", "mini") == "the table fixed_dataset\n"


def test_a_data_set_may_be_named_like_a_missing_number(project, capsys):
    runs = runs_frame({"sgd": [90]}, dataset="NA").assign(paper="geiping2022")
    write_text(project / "results/mini/frames/geiping2022_runs.csv", runs.to_csv(index=False))
    assert shown(capsys).startswith("Scale mini: NA (5 training and 6 test images), ")


def test_results_from_records_are_shown_where_nothing_was_trained(project, capsys):
    own = ["--configfile", str(ROOT / "config/small.yaml"), "--config", "from=records"]
    for words in (["--scale", "small"], ["--scale", "recorded/small"], own):
        assert shown(capsys, "geiping2022/main", *words) == "the recorded table\n"
    text = shown(capsys, "--scale", "small")
    assert text.startswith("Scale recorded/small.\n")
    assert "whysgd show geiping2022 --scale small\n" in text
    write_text(project / "results/small/tables/geiping2022_main.md", "the trained table\n")
    assert shown(capsys, "geiping2022/main", "--scale", "small") == "the trained table\n"
    assert "whysgd show geiping2022 --scale recorded/small\n" in shown(capsys, "--scale", "recorded/small")


NOTHING = {
    "no results": (["--scale", "midi"],
                   "nothing was made at scale midi: run `snakemake --cores 2 --configfile config/midi.yaml`"),
    "no results, but records": (["--config", "from=records"],
                                "nothing was made at scale mini: run `snakemake --cores 2`; or, for what records say, `make records` and --scale: midi ("),
    "a paper": (["iyer2023"], "iyer2023: was not made at scale mini; made: geiping2022/main,"),
    "a table": (["geiping2022/architectures"], "geiping2022/architectures: was not made at scale mini; made: geiping2022/main,"),
    "a scale in place of a paper": (["mini"], "'mini' is a scale: give it as --scale mini"),
}  # fmt: skip


@pytest.mark.parametrize(("words", "message"), NOTHING.values(), ids=NOTHING)
def test_where_nothing_is_one_line_says_what_to_do(project, monkeypatch, capsys, words, message):
    (project / "config").symlink_to(ROOT / "config")
    assert error_of(capsys, "show", *words).startswith(f"error: show: {message}")
