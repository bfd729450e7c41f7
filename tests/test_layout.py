"""How tables of papers/ are laid out: cells, gaps, what a scale leaves out, and novack2023 as published."""

import pytest
from conftest import one_line

from whysgd.report.colours import PALETTE, run_colours
from whysgd.study.config import load_config
from whysgd.study.papers import load_paper, tables_at

N = None
# A second transcription of the published tables: for each row η, λ (if there is one) and the accuracies, by column.
MAIN = {
    "resnet18-cifar10": ([0.1, 0.1, 0.1, 0.1, 0.1, 0.1], [N, N, 0.01, 0.01, 0.001, 0.001], [92.64, 89.83, 91.75, 91.50, 90.13, 90.15]),
    "resnet18-cifar100": ([0.1, 0.5, 0.1, 0.1, 0.1, 0.1], [N, N, 0.01, 0.01, 5e-5, 0.001], [71.31, 67.27, 70.65, 71.20, 66.08, 66.26]),
    "vgg11-cifar10": ([0.15, 0.01, 0.01, 0.01, 0.01, N], [N, N, 0.5, 0.5, 2e-5, N], [78.19, 73.90, 77.62, 78.40, 74.09, N]),
}  # fmt: skip
GRAFTING = {
    "resnet18-cifar10": ([0.1, 0.1, 0.1, 0.1, 0.2626], [92.64, 89.83, 92.12, 92.16, 92.10]),
    "resnet18-cifar100": ([0.1, 0.5, 0.1, 0.1, 0.3951], [71.31, 67.27, 68.30, 68.40, 66.83]),
    "vgg16-cifar10": ([0.05, 0.1, 0.05, 0.05, 0.2388], [89.56, 86.97, 88.65, 89.06, 89.39]),
    "vgg16-cifar100": ([0.1, 0.1, 0.1, 0.1, 0.4322], [64.26, 55.94, 59.71, 63.48, 58.05]),
}
SAMPLE = {
    "best": ("best_test_accuracy", [78.19, 75.94, 73.90, 77.34, 77.23, 75.73, 75.64]),
    "final": ("test_accuracy", [77.56, 74.73, 73.60, 76.57, 76.60, 75.48, 75.36]),
}
SAMPLE_SETTINGS = [0.15, *[0.01] * 6], [N, N, N, 0.25, 0.5, 0.5, 0.5], [N, N, N, 50, 100, 1000, 2500]
LARGE = {
    "resnet18-cifar10-gn-mb2560": (2560, 0.5, 0.0025, 65.09), "resnet18-cifar100-ft-mb2560": (2560, 0.1, 0.01, 64.89),
    "vgg11-cifar10-gn-mb1000": (1000, 0.01, 0.25, 75.07), "vgg11-cifar10-gn-mb2500": (2500, 0.01, 0.25, 75.21),
}  # fmt: skip
PENALTIES = [N, N, "micro_batch_gradient_norm", "fisher_trace", "average_jacobian", "unit_jacobian"]


def novack(table):
    paper = load_paper("novack2023")
    return paper["runs"], paper["tables"][table]["rows"]


def strength(settings):
    return (settings.get("penalty") or {}).get("strength")


def test_the_penalties_are_as_published():
    runs, cells = novack("main")
    assert len(cells) == 18
    columns = list(load_paper("novack2023")["tables"]["main"]["columns"])
    for index, cell in enumerate(cells):
        lr, lam, mean = (values[index % 6] for values in MAIN[cell["row"]])
        assert cell["mean"] == mean
        assert (cell["run"] is None) == (lr is None)
        if cell["run"]:
            settings = runs[cell["run"]]
            assert cell["run"] == f"{cell['row']}.{columns[index % 6]}"
            assert (settings["lr"], strength(settings)) == (lr, lam)
            assert (settings.get("penalty") or {"name": None})["name"] == PENALTIES[index % 6]
            assert settings["batch"] == ("micro_batch" if index % 6 == 0 else 5000 if "vgg11" in cell["row"] else 5120)


def test_grafting_is_as_published_and_its_columns_name_runs():
    runs, cells = novack("grafting")
    assert len(cells) == 20
    for index, cell in enumerate(cells):
        lr, mean = (values[index % 5] for values in GRAFTING[cell["row"]])
        settings = runs[cell["run"]]
        assert (settings["lr"], cell["mean"]) == (lr, mean)
        transform = {
            2: {"name": "iter_graft"}, 3: {"name": "exter_graft", "reference": f"{cell['row']}.sb-sgd"}, 4: {"name": "normalize"}
        }.get(index % 5)  # fmt: skip
        assert settings.get("transform") == transform


def test_the_sampled_micro_batch_is_as_published_and_one_run_has_two_metrics():
    runs, cells = novack("sample_micro_batch")
    assert len(cells) == 14
    for index, cell in enumerate(cells):
        metric, means = SAMPLE[cell["label"]]
        lr, lam, sample = (values[index % 7] for values in SAMPLE_SETTINGS)
        settings = runs[cell["run"]]
        assert (cell["metric"], cell["mean"]) == (metric, means[index % 7])
        assert (settings["lr"], strength(settings), (settings.get("penalty") or {}).get("sample")) == (lr, lam, sample)
    assert [cell["run"] for cell in cells[:7]] == [cell["run"] for cell in cells[7:]]


def test_large_micro_batches_are_as_published():
    runs, rows = novack("large_micro_batch")
    assert {row["run"] for row in rows} == set(LARGE)
    for row in rows:
        settings = runs[row["run"]]
        assert (settings["micro_batch"], settings["lr"], strength(settings), row["mean"]) == LARGE[row["run"]]
        assert settings["penalty"]["name"] == ("fisher_trace" if "-ft-" in row["run"] else "micro_batch_gradient_norm")


def test_published_numbers_are_those_of_the_shared_reference(shared_reference):
    theirs = shared_reference["novack2023"]["tables"]
    assert {row["id"]: (row["lr"], row["lam"], row["mean"]) for row in theirs["main"]["rows"]} == MAIN
    assert {row["id"]: (row["lr"], row["mean"]) for row in theirs["grafting"]["rows"]} == GRAFTING
    sample = {row["id"]: row["mean"] for row in theirs["sample_micro_batch"]["rows"]}
    assert sample == {name: means for name, (_, means) in SAMPLE.items()}
    assert (theirs["sample_micro_batch"]["lr"], theirs["sample_micro_batch"]["lam"]) == SAMPLE_SETTINGS[:2]
    rows = theirs["large_micro_batch"]["rows"]
    assert {row["id"]: (row["micro_batch"], row["lr"], row["lam"], row["mean"]) for row in rows} == LARGE


def test_a_published_gap_is_the_published_numbers():
    _, cells = novack("main")
    gaps = {cell["run"]: cell for cell in cells}
    gn = gaps["resnet18-cifar10.lb-gn"]
    assert gn["gap"] == {"from": "resnet18-cifar10.lb-sgd", "to": "resnet18-cifar10.sb-sgd"}
    assert gn["published_gap"] == pytest.approx((91.75 - 89.83) / (92.64 - 89.83))
    assert gaps["vgg11-cifar10.lb-ft"]["published_gap"] == pytest.approx(4.50 / 4.29)
    for end in ("resnet18-cifar10.sb-sgd", "resnet18-cifar10.lb-sgd", None):
        assert (gaps[end]["gap"], gaps[end]["published_gap"]) == (None, None)
    # At its own metric, and from another table.
    _, sample = novack("sample_micro_batch")
    assert sample[3]["published_gap"] == pytest.approx((77.34 - 73.90) / (78.19 - 73.90))
    assert sample[10]["published_gap"] == pytest.approx((76.57 - 73.60) / (77.56 - 73.60))
    _, large = novack("large_micro_batch")
    assert large[0]["published_gap"] == pytest.approx((65.09 - 89.83) / (92.64 - 89.83))


def test_what_is_compared_keeps_its_colour_and_differs_within_a_table():
    tables = load_paper("novack2023")["tables"]
    colours = run_colours(tables)
    for name, mine in colours.items():
        rows = [row for row in tables[name]["rows"] if row["run"] is not None]
        compared = {row["method" if tables[name]["gap"] else "label"]: mine[row["run"]] for row in rows}
        assert len(set(compared.values())) == min(len(compared), len(PALETTE)), name
        assert all(mine[row["run"]] == compared[row["method" if tables[name]["gap"] else "label"]] for row in rows)
    assert colours["main"]["resnet18-cifar10.lb-gn"] == colours["main"]["vgg11-cifar10.lb-gn"]
    assert colours["main"]["resnet18-cifar10.lb-sgd"] == colours["grafting"]["vgg16-cifar10.lb-sgd"] == PALETTE[1]
    # By their labels where no columns span a gap: SGD is black in each of the seminar's tables.
    seminar = run_colours(load_paper("seminar")["tables"])
    assert seminar["mnist"]["mnist-sgd"] == seminar["cifar"]["cifar-sgd"] == PALETTE[0]
    many = {"t": {"gap": None, "rows": [{"run": index, "label": str(index)} for index in range(10)]}}
    assert set(run_colours(many)["t"].values()) == set(PALETTE)


SCALE = {"seeds": [0], "datasets": {"*": "digits"}}


def at(**rules):
    return load_config(settings={"papers": ["novack2023"], "scale": "s", "scales": {"s": {**SCALE, **rules}}})


def test_a_scale_skips_runs_and_rows_but_shows_what_was_published():
    config = at(skip={"novack2023": ["resnet18-cifar10.lb-aj", "vgg16-cifar100"]})
    tables = tables_at(config, "novack2023")
    left_out = {row["run"] for table in tables.values() for row in table["rows"] if not row["planned"]}
    grafts = ("sb-sgd", "lb-sgd", "iter-graft", "exter-graft", "ngd")
    assert left_out == {None, "resnet18-cifar10.lb-aj", *(f"vgg16-cifar100.{graft}" for graft in grafts)}
    assert len(tables["grafting"]["rows"]) == 20


@pytest.mark.parametrize(
    ("paper", "rules", "message"),
    [
        ("novack2023", {"skip": {"novack2023": ["resnet19"]}}, "scales.s.skip.novack2023: no run or row 'resnet19'; allowed: resnet18-cifar10"),
        ("novack2023", {"skip": {"novack2023": ["vgg16-cifar10.sb-sgd"]}}, "'vgg16-cifar10.sb-sgd' is not run at this scale, but 'vgg16-cifar10.exter-graft'"),
        ("novack2023", {"skip": ["vgg16"]}, r"scales.s.skip = \['vgg16'\]: must be a mapping"),
        ("geiping2022", {"tables": {"geiping2022": ["mane"]}}, "scales.s.tables.geiping2022: no table 'mane'; allowed: main, architectures"),
        ("iyer2023", {"table_seeds": {"iyer2023": {"explor": 3}}}, "scales.s.table_seeds.iyer2023: no table 'explor'; allowed: full_budget, short_budget, explore"),
        ("iyer2023", {"table_seeds": {"iyer2023": {"explore": 0}}}, "scales.s.table_seeds.iyer2023.explore = 0: must be at least 1"),
        ("iyer2023", {"table_seeds": {"iyer2023": 3}}, "scales.s.table_seeds.iyer2023 = 3: must be a mapping"),
        ("simsekli2019", {"grids": {"simsekli2019": {"mnst": {"width": [4]}}}}, "scales.s.grids.simsekli2019: no table 'mnst'; allowed: mnist, cifar10"),
        ("simsekli2019", {"grids": {"simsekli2019": {"iterations": {"width": [4]}}}}, "scales.s.grids.simsekli2019.iterations: the table has no grid"),
        ("simsekli2019", {"grids": {"simsekli2019": {"mnist": {"height": [4]}}}}, "grids.simsekli2019.mnist.height: no such axis; allowed: loss, depth, width"),
        ("simsekli2019", {"grids": {"simsekli2019": {"mnist": {"depth": [2, 11]}}}}, "grids.simsekli2019.mnist.depth: no value 11; allowed: 2, 3, 4"),
        ("simsekli2019", {"grids": {"simsekli2019": {"mnist": {"depth": []}}}}, "scales.s.grids.simsekli2019.mnist.depth = .*: must have at least 1 entries"),
    ],
)  # fmt: skip
def test_a_mistake_in_what_a_scale_names_is_one_line(paper, rules, message):
    with one_line(message):
        tables_at(at(**rules), paper)


PAPER = """
paper: mine
title: T
defaults: {dataset: digits, model: resnet_mini, batch: 8, micro_batch: 4, lr: 0.1, epochs: 1,
           schedule: {unit: step, warmup: 0, decay: constant}}
runs: {r: {}, s: {}, t: {}}
tables:
  first:
    title: First
    columns:
      small: {label: Small, settings: {batch: 4}}
      large: {label: Large, settings: {penalty: null}}
      gn: {label: GN, settings: {penalty: {name: fisher_trace}}}
      graft: {label: Graft, settings: {transform: {name: exter_graft, reference: small}}}
      itself: {label: Itself}
    gap: {from: large, to: small}
    rows:
      - {run: r, label: R, lr: [0.1, 0.2, 0.3, 0.4, 0.1], strength: [null, null, 0.5, null, null], mean: [90, 80, 85, null, 1]}
      - {run: s, label: S, lr: [0.1, 0.1, null, 0.1, 0.1]}
  second:
    title: Second
    rows:
      - {run: t, label: T, mean: 79, gap: {from: r.large, to: r.small}}
claims:
  - {id: a, claim: C, check: gap(r.gn) >= 0.3}
"""


def test_cells_have_their_own_settings_and_a_column_without_any_is_the_row_itself(load_own_paper):
    loaded = load_own_paper(PAPER)
    rows, runs = loaded["tables"]["first"]["rows"], loaded["runs"]
    named = ["r.small", "r.large", "r.gn", "r.graft", "r", "s.small", "s.large", None, "s.graft", "s"]
    assert [row["run"] for row in rows] == named
    assert [runs[f"r.{column}"]["lr"] for column in ("small", "large", "gn", "graft")] == [0.1, 0.2, 0.3, 0.4]
    assert runs["r.gn"]["penalty"] == {"name": "fisher_trace", "strength": 0.5}
    assert runs["s.graft"]["transform"]["reference"] == "s.small"
    assert [row["published_gap"] for row in rows[:5]] == [None, None, 0.5, None, pytest.approx(-7.9)]
    assert [row["gap"] is None for row in rows] == [True, True, False, False, False, True, True, True, False, False]
    assert loaded["tables"]["second"]["rows"][0]["published_gap"] == pytest.approx(-0.1)
    assert loaded["tables"]["second"]["figures"] == ["comparison", "curves"]
    assert {loaded["gaps"][run]["from"] for run in ("r.small", "r.large", "r.gn", "t")} == {"r.large"}


LARGE_GAP = "gap: {from: large, to: small}"
SECOND = "rows:\n      - {run: t, label: T, mean: 79"
WITH_COLUMNS = "columns: {small: {label: S, settings: {batch: 4}}}\n    rows:\n      - {run: r, label: T, mean: [79]"
MISTAKES = {
    "short lr": (("lr: [0.1, 0.1, null, 0.1, 0.1]", "lr: [0.1]"), r"tables.first.rows\[1\].lr = \[0.1\]: must have a number or null for each of small, large"),
    "negative lr": (("lr: [0.1, 0.1, null", "lr: [0.1, -1, null"), r"tables.first.rows\[1\].lr\[1\] = -1: must be above 0"),
    "strength without a penalty": (("strength: [null, null", "strength: [null, 0.1"), r"rows\[0\].strength: column 'large' has no penalty; must be null there"),
    "the row's run with another lr": (("0.4, 0.1], strength", "0.4, 0.7], strength"), r"rows\[0\].run: its run 'r' differs from that of runs.r in lr"),
    "one run with two lr": (
        (SECOND, WITH_COLUMNS + ", lr: [0.9]"), r"tables.second.rows\[0\].run: its run 'r.small' differs from that of tables.first.rows\[0\] in lr",
    ),
    "unknown reference": (("reference: small", "reference: smal"), r"tables.first.rows\[0\]: run r.graft: transform.reference = 'smal': no such other run or column"),
    "circle of references": (("{batch: 4}", "{batch: 4, transform: {name: exter_graft, reference: graft}}"),
                             "run r.small: transform.reference: goes in a circle: r.small -> r.graft -> r.small"),
    "reference that is not run": (("lr: [0.1, 0.1, null", "lr: [null, 0.1, null"), r"rows\[1\].lr: column 'graft' needs the run of column 'small'"),
    "gap of no column": ((LARGE_GAP, "gap: {from: large, to: tiny}"), "tables.first.gap.to = 'tiny': no such column; allowed: small"),
    "half a gap": ((LARGE_GAP, "gap: {from: large}"), "tables.first.gap: to must be given"),
    "gap without columns": (("    title: Second", "    title: Second\n    gap: {from: t, to: r}"), "tables.second.gap = .*: only a table with columns"),
    "gap of no run": (("from: r.large", "from: r.larg"), "tables.second: row 'T': gap.from = 'r.larg': no such run; allowed: r, s"),
    "list without columns": (("mean: 79", "mean: [79]"), r"tables.second.rows\[0\].mean = \[79\]: only in a table with columns"),
    "lr without columns": (("mean: 79", "lr: [0.1]"), r"tables.second.rows\[0\].lr = \[0.1\]: only in a table with columns"),
    "unknown figure": (("    title: Second", "    title: Second\n    figures: [pie]"), r"tables.second.figures\[0\] = 'pie': allowed: accuracy, comparison"),
    "unknown metric": (("label: T, ", "label: T, metric: loss, "), r"tables.second.rows\[0\].metric = 'loss': allowed: test_accuracy"),
    "metric of a claim": (("claim: C,", "claim: C, metric: loss,"), r"claims\[0\].metric = 'loss': allowed: test_accuracy"),
    "two gaps of a run": (
        (SECOND, "rows:\n      - {run: s, label: U, gap: {from: r.large, to: r.small}}\n      - {run: t, label: T, mean: 79"),
        "tables.second: row 'U': gap = .*: the run has another gap already",
    ),
    "the same run and metric": ((SECOND, "rows:\n      - {run: t, label: U}\n      - {run: t, label: T, mean: 79"), r"tables.second.rows\[1\].run = 't': another row"),
    "plane of no run": (("    title: Second", "    title: Second\n    planes: [r]"), r"tables.second.planes\[0\] = 'r': no run of the table; allowed: t"),
    "contours without planes": (
        ("    title: Second", "    title: Second\n    figures: [landscape, contours]"), r"second.planes = \[\]: the figure contours needs runs; allowed: t",
    ),
    "out of scope of nothing": (
        ("claims:", "out_of_scope: [{table: third, rows: [X], why: Y}]\nclaims:"), r"out_of_scope\[0\].table = 'third': no such table; allowed: first, sec",
    ),
    "two claims with one id": (("claims:", "claims:\n  - {id: a, claim: C, check: t >= 20}"), r"claims\[1\].id = 'a': another claim"),
    "a spread below 0": (("mean: 79", "mean: 79, std: -0.1"), r"tables.second.rows\[0\].std = -0.1: must be at least 0"),
    "a rate as a text": (("lr: 0.1", "lr: 1e-1"), "defaults.lr = '1e-1': must be a finite number; write 0.1"),
    "out of scope for no reason": (("claims:", "out_of_scope: [{table: first, rows: [X]}]\nclaims:"), r"out_of_scope\[0\]: why must be given"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_each_mistake_in_a_table_is_one_line_with_file_and_key(load_own_paper, change, message):
    with one_line(f"^papers/mine.yaml: .*{message}"):
        load_own_paper(PAPER, change)


def test_one_run_may_be_shown_at_two_metrics(load_own_paper):
    two = "rows:\n      - {run: t, label: U, metric: best_test_accuracy}\n      - {run: t, label: T, mean: 79"
    rows = load_own_paper(PAPER, (SECOND, two))["tables"]["second"]["rows"]
    assert [row["metric"] for row in rows] == ["best_test_accuracy", "test_accuracy"]
