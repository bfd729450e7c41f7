"""`whysgd diff`: settings that differ, and accuracies side by side."""

import shutil

import pytest
from conftest import ROOT

from whysgd.__main__ import main
from whysgd.files import read_json, write_json
from whysgd.results.metrics import joined


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty project with the records of the repository."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "records/mini", tmp_path / "records/mini")
    return tmp_path


def columns(capsys, *words) -> dict[str, list[str]]:
    """The cells of each line by the first one."""
    assert main(["diff", *words]) == 0
    lines = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
    cells = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    return {line[0]: line[1:] for line in cells if line}


def test_settings_and_accuracies_stand_side_by_side(project, capsys):
    found = columns(capsys, "geiping2022/fb", "geiping2022/fb-clip")
    assert found["setting"] == found["at the last step"] == ["geiping2022/fb", "geiping2022/fb-clip"]
    assert found["epochs"] == ["30", "300"]
    assert found["clip"] == ["–", "0.25"]
    assert "momentum" not in found
    records = sorted((project / "records/mini/geiping2022/fb").glob("seed-?.json"))
    metrics = [read_json(record)["metrics"] for record in records]
    mean = sum(one["final"]["test_accuracy"] for one in metrics) / len(metrics)
    assert found["test accuracy"][0].startswith(f"{mean:.2f} ± ")
    assert found["test accuracy"][0].endswith(f" (n = {len(metrics)})")
    assert found["from"] == ["records", "records"]
    ends = {name: [f"{metrics[2]['final'][f'{name}_accuracy']:.2f} (n = 1)"] * 2 for name in ("train", "test")}
    assert columns(capsys, "geiping2022/fb", "geiping2022/fb", "--seed", "2") == {
        "No setting differs.": [], "at the last step": ["geiping2022/fb"] * 2, "------------------": ["----------------"] * 2,
        **{f"{name} accuracy": cells for name, cells in ends.items()}, "from": ["records", "records"],
    }  # fmt: skip


def test_results_come_before_records_and_those_of_other_settings_do_not_count(project, capsys):
    metrics = read_json(project / "records/mini/geiping2022/fb/seed-0.json")["metrics"]
    file = project / "results/mini/runs/geiping2022/fb/seeds-0/metrics.json"
    write_json(file, joined([{**metrics, "status": "diverged"}], {}))
    found = columns(capsys, "geiping2022/fb", "geiping2022/sgd")
    assert found["from"] == ["results", "records"]
    assert found["test accuracy"][0] == "– (n = 0, 1 diverged)"
    found = columns(capsys, "geiping2022/fb", "geiping2022/sgd", "--config", "evaluations=3")
    said = "No results of geiping2022/fb and geiping2022/sgd with these settings at scale mini"
    assert any(line.startswith(said) for line in found)


def test_other_scales_and_papers_have_settings_without_results(project, capsys):
    found = columns(capsys, "geiping2022/sgd", "novack2023/resnet18-cifar10.sb-sgd", "--scale", "paper")
    assert found["epochs"][0] == "300"
    line = "No results of geiping2022/sgd and novack2023/resnet18-cifar10.sb-sgd with these settings at scale paper"
    assert f"{line}: `whysgd train` makes them." in found
