import json
import shutil

import pytest
import yaml
from conftest import ROOT, config_of

from whysgd.errors import UserError
from whysgd.files import read_json
from whysgd.study.config import load_config
from whysgd.study.length import steps_per_epoch
from whysgd.study.papers import claims_at, expand, load_paper, scaled_spec
from whysgd.study.published import digests
from whysgd.study.spec import Augmentation, RunSpec, StoredCopies

# A second transcription of the published table, row by row: epochs, η, warmup, horizon, clip, penalty, block.
MAIN = {
    "sgd": (95.70, 0.11, 300, 0.1, 5, 300, None, False, 128),
    "fb": (75.42, 0.13, 300, 0.1, 5, 300, None, False, 128),
    "fb-long": (87.36, 1.23, 3000, 0.4, 400, 4000, None, False, 128),
    "fb-clip": (93.85, 0.10, 3000, 0.4, 400, 4000, 0.25, False, 128),
    "fb-reg": (95.36, 0.07, 3000, 0.8, 400, 4000, 0.25, True, 128),
    "fb-strong-reg": (95.67, 0.08, 3000, 0.8, 400, 4000, 0.25, True, 32),
    "fb-practice": (95.91, 0.14, 3000, 0.8, 400, 4000, 0.25, True, 32),
}


def at(scale, run, **settings):
    return scaled_spec(load_config(settings={"scale": scale, **settings}), "geiping2022", run, 0)


@pytest.mark.parametrize("run", MAIN)
def test_the_main_table_is_as_published(run):
    mean, std, epochs, lr, warmup, horizon, clip, penalty, block = MAIN[run]
    row = next(row for row in load_paper("geiping2022")["tables"]["main"]["rows"] if row["run"] == run)
    assert (row["mean"], row["std"]) == (mean, std)
    spec = at("paper", run)
    assert (spec.epochs, spec.lr, spec.clip, spec.micro_batch) == (epochs, lr, clip, block)
    assert (spec.schedule.warmup, spec.schedule.horizon) == (warmup, horizon)
    assert (spec.penalty is not None) == penalty
    if penalty:
        assert (spec.penalty.block_strength, spec.penalty.eps) == (0.5, 1e-2)
        assert spec.penalty.variant == "forward-differences"
    assert spec.full_batch == (run != "sgd")
    assert spec.shuffle == (run in ("sgd", "fb-practice"))
    assert (spec.dataset, spec.model) == ("cifar10", "resnet18")
    assert (spec.momentum, spec.nesterov, spec.weight_decay) == (0.9, True, 5e-4)
    assert spec.augment == Augmentation(crop_padding=4, flip=True)
    assert spec.epochs * steps_per_epoch(spec, 50_000) == (117_000 if run == "sgd" else epochs)


def test_published_numbers_are_those_of_the_shared_reference(shared_reference):
    ours = load_paper("geiping2022")["tables"]["main"]["rows"]
    tables = shared_reference["geiping2022"]["tables"]
    theirs, architectures = tables["main"]["rows"], tables["architectures"]["rows"]
    assert {row["id"]: row["mean"] for row in architectures} == ARCHITECTURES
    keys = ("label", "mean", "std", "modifications")
    assert [[r["run"], *(r[k] for k in keys)] for r in ours] == [[r["id"], *(r[k] for k in keys)] for r in theirs]


ARCHITECTURES = {
    "sgd": [95.70, 95.83, 95.98, 95.84], "fb": [75.42, 54.32, 58.62, 76.87], "fb-long": [87.36, 83.31, 91.02, 82.06],
    "fb-clip": [93.85, 94.15, 91.41, 93.44], "fb-reg": [95.36, 95.51, 95.82, 95.47],
    "fb-strong-reg": [95.67, 96.05, 96.01, 95.81], "fb-practice": [95.91, 96.56, 96.76, 95.86],
}  # fmt: skip


def test_a_table_with_columns_has_a_run_for_each_cell_and_shares_those_of_other_tables():
    specs = expand(load_config(settings={"scale": "paper", "papers": ["geiping2022"], "seeds": [0]}))
    assert len(specs) == 7 + 21 + 3 + 1 + 19
    table = load_paper("geiping2022")["tables"]["architectures"]
    assert len(table["rows"]) == 28
    for cell, mean in zip(table["rows"], [m for means in ARCHITECTURES.values() for m in means], strict=True):
        spec = specs["geiping2022", cell["run"], 0]
        row, _, column = cell["run"].partition(".")
        assert cell["mean"] == mean
        assert cell["column"].lower().replace("-", "") == (column or "resnet18") == spec.model
        assert spec.micro_batch == MAIN[row][-1]
        assert spec.lr == MAIN[row][3]


FIXED = {
    "noaug-sgd": 84.32, "noaug-sgd-star": 90.07, "noaug-fb": None, "noaug-fb-strong-reg": 89.17, "x10-sgd": 95.20,
    "x10-fb": 88.44, "x10-fb-strong-reg": 95.11,
}  # fmt: skip


def test_each_row_on_fixed_data_differs_from_its_augmented_row_in_the_data_alone():
    specs = expand(load_config(settings={"scale": "paper", "papers": ["geiping2022"], "seeds": [0]}))
    rows = {row["run"]: row for row in load_paper("geiping2022")["tables"]["fixed_dataset_all"]["rows"]}
    same = {name: name for name in ("fb-clip", "fb-reg", "fb-strong-reg")}
    augmented = {"sgd": "sgd", "fb-300": "fb", "fb": "fb-long", **same}
    main = {row["run"]: row for row in load_paper("geiping2022")["tables"]["main"]["rows"]}
    assert list(rows) == [f"{copies}-{own}" for copies in ("noaug", "x10", "x40") for own in augmented]
    for copies, count in (("noaug", 0), ("x10", 10), ("x40", 40)):
        for own, like in augmented.items():
            spec, row = specs["geiping2022", f"{copies}-{own}", 0], rows[f"{copies}-{own}"]
            store = StoredCopies(copies=count, crop_padding=4, flip=True) if count else None
            assert spec.store == store
            assert spec == specs["geiping2022", like, 0].replace(run=spec.run, augment=None, store=store)
            assert spec.epochs * steps_per_epoch(spec, 50_000) == (117_000 if own == "sgd" else spec.epochs)
            assert row["mean"] == FIXED.get(spec.run)
            assert row["modifications"] == main[like]["modifications"]
    table = load_paper("geiping2022")["tables"]["fixed_dataset"]["rows"]
    assert [(row["run"], row["mean"]) for row in table] == [*FIXED.items()]
    star = specs["geiping2022", "noaug-sgd-star", 0]
    assert star == specs["geiping2022", "noaug-sgd", 0].replace(run=star.run, weight_decay=5e-3)
    assert "fixed_dataset_all" not in load_config()["scales"]["mini"]["tables"]["geiping2022"]


BOTH = ["main", "fixed_dataset"]


def test_a_scale_divides_stored_copies_and_augments_them_as_it_does():
    specs = expand(config_of(geiping2022=BOTH))
    stores = {run: spec.store for (_, run, _), spec in specs.items() if spec.store}
    assert set(stores) == {run for run in FIXED if run.startswith("x10")}
    assert set(stores.values()) == {StoredCopies(copies=2, crop_padding=1, flip=False)}


def test_a_scale_runs_the_tables_it_names_and_judges_the_claims_it_can():
    for tables, runs, ids in ((BOTH, {*MAIN, *FIXED}, "123467"), (["main"], {*MAIN}, "12347")):
        config = config_of(geiping2022=tables)
        assert {run for _, run, _ in expand(config)} == runs
        assert [claim.id for claim in claims_at(config, "geiping2022")] == [f"g{one}" for one in ids]
    paper = claims_at(load_config(settings={"scale": "paper"}), "geiping2022")
    assert [claim.id for claim in paper][-3:] == ["g5", "g6", "g7"]


def test_a_scale_maps_every_row_by_the_same_rules():
    for run in MAIN:
        paper, mini = at("paper", run), at("mini", run)
        assert mini.epochs == paper.epochs / 10
        assert mini.micro_batch == paper.micro_batch / 8
        # A step of a few images has a smaller rate; full batch, with little noise, keeps its own.
        assert mini.lr == pytest.approx(4 * paper.lr / (8 if run == "sgd" else 1))
        # A warmup shorter than a unit is left out.
        assert mini.schedule.warmup == (paper.schedule.warmup / 10 if paper.schedule.warmup > 10 else 0)
        assert mini.schedule.horizon == paper.schedule.horizon / 10
        assert (mini.dataset, mini.model) == ("digits", "resnet_mini")
        assert mini.augment == Augmentation(crop_padding=1, flip=False)
        assert (mini.clip, mini.penalty, mini.momentum) == (paper.clip, paper.penalty, paper.momentum)
        # The paper's normalization belongs to its own data set.
        assert paper.normalize is not None
        assert mini.normalize is None


def test_batches_of_every_size_but_all_images_keep_one_learning_rate():
    """Published with one rate, small and large batches have one at a scale."""
    specs = expand(config_of(novack2023=["grafting"])).values()
    rates = {spec.run.partition(".")[2]: spec.lr for spec in specs if spec.run.startswith("resnet18-cifar10.")}
    columns = ("sb-sgd", "lb-sgd", "iter-graft", "exter-graft")
    assert rates == {**dict.fromkeys(columns, 4 * 0.1 / 32), "ngd": pytest.approx(4 * 0.2626 / 32)}


def test_a_scale_takes_fewer_micro_batches_and_leaves_the_batches_comparable():
    config = load_config(settings={"scale": "paper"})
    config["scales"]["paper"] |= {"micro_batch_divisor": 8, "batch_divisor": 4}

    def sizes(run, paper="novack2023"):
        spec = scaled_spec(config, paper, run, 0)
        return spec.batch, spec.micro_batch

    assert sizes("resnet18-cifar10.lb-sgd") == (160, 16)
    assert sizes("resnet18-cifar10.sb-sgd") == (16, 16)
    # Two large micro-batches stay two, of the same batch.
    assert sizes("resnet18-cifar10-gn-mb2560") == (160, 80)
    assert sizes("vgg11-cifar10.lb-sgd") == (12 * 13, 13)
    # So does a sampled one of half the batch.
    assert scaled_spec(config, "novack2023", "vgg11-cifar10.lb-gn-mb2500", 0).penalty.sample == 12 * 13 / 2
    assert sizes("fb", "geiping2022") == ("all", 16)


def test_every_row_is_run_once_for_each_seed():
    others = {"novack2023": None, "iyer2023": None, "simsekli2019": ["mnist"], "seminar": ["mnist", "cifar"]}
    specs = expand(config_of({"seeds": [0, 7]}, geiping2022=BOTH, **others))
    theirs = {key for key in specs if key[0] == "geiping2022"}
    assert theirs == {("geiping2022", run, seed) for run in (*MAIN, *FIXED) for seed in (0, 7)}
    assert len(specs) - len(theirs) == (27 + 12 + 162 + 14) * 2
    assert len({spec.digest for spec in specs.values()}) == len(specs)


def test_a_spec_survives_json():
    spec = at("paper", "fb-reg")
    assert RunSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    with pytest.raises(ValueError, match="typo: unknown key"):
        RunSpec.from_dict({**spec.to_dict(), "typo": 1})


@pytest.mark.parametrize(
    "wrong",
    [{"micro_batch": 0}, {"micro_batch": "16"}, {"averaging": "median"}, {"lr": float("nan")}, {"seed": -1}, {"seed": True},
     {"batch": 20}, {"precision": "fp8"}, {"clip": -1}],
)  # fmt: skip
def test_a_spec_that_no_run_can_have_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        RunSpec.from_dict({**at("mini", "sgd").to_dict(), **wrong})


@pytest.fixture
def paper_file(load_own_paper):
    """A function that loads a changed paper, and returns its runs."""

    def write(changes):
        content = yaml.safe_load((ROOT / "papers/geiping2022.yaml").read_text())
        for path, value in changes.items():
            place, (*keys, last) = content, path.split(".")
            for key in keys:
                place = place[key]
            place[last] = value
        load_own_paper(yaml.safe_dump(content), name="geiping2022")
        return expand(load_config(settings={"papers": ["geiping2022"], "seeds": [0, 1, 2]}))

    return write


MISTAKES = {
    "unknown setting": ({"runs.sgd.lrr": 1}, r"papers/geiping2022.yaml: runs.sgd.lrr: unknown key; allowed here: .*lr"),
    "negative rate": ({"runs.sgd.lr": -1}, "papers/geiping2022.yaml: runs.sgd.lr = -1: must be above 0"),
    "wrong macro-batch": ({"runs.sgd.batch": "some"}, "batch = 'some': must be a whole number, `all` or `micro_batch`"),
    "uneven macro-batch": ({"runs.sgd.batch": 200}, "batch = 200: must be `all`, `micro_batch` or a multiple of the micro-batch"),
    "large block": ({"runs.fb.micro_batch": 8000}, "runs.fb.micro_batch = 1000 at scale mini: must be at most 512, the images trained on \\(digits\\)"),
    "large macro-batch": ({"runs.sgd.batch": 8192}, "runs.sgd.batch = 1024 at scale mini: must be at most 512"),
    "long warmup in steps": ({"runs.fb.schedule": {"unit": "step", "warmup": 301, "decay": "cosine", "horizon": 9}},
                             "runs.fb.schedule.warmup = 30.1 at scale mini: must be at most 30, the run's steps"),
    "long warmup": ({"runs.fb.schedule": {"unit": "epoch", "warmup": 301, "decay": "cosine", "horizon": 9}},
                    "runs.fb.schedule.warmup = 30.1 at scale mini: must be at most 30, the run's epochs"),
    "unknown row": ({"tables.main.rows": [{"run": "nope", "label": "x"}]}, r"tables.main.rows\[0\].run = 'nope': no such"),
    "unknown like": ({"runs.fb-reg.like": "nope"}, "runs.fb-reg.like = 'nope': no such run; allowed: .*sgd"),
    "circular like": ({"runs.fb-reg.like": "fb-practice"}, "goes in a circle: fb-practice -> fb-strong-reg -> fb-reg -> fb-practice"),
    "nesterov alone": ({"defaults.momentum": 0}, "nesterov = True at scale mini: needs a momentum above 0"),
    "short normalization": ({"defaults.dataset": "digits", "defaults.normalize": {"mean": [0.5] * 3, "std": [0.5] * 3}},
                            "runs.sgd.normalize = .*: mean and std need one number for each of 1 channels"),
    "unknown network": ({"runs.sgd.model": "resnet81"}, "runs.sgd.model = 'resnet81': no such network; .*did you mean resnet18"),
    "unknown data set": ({"runs.sgd.dataset": "cifar11"}, "runs.sgd.dataset = 'cifar11': no such data set; .*did you mean cifar10"),
    "no claim": ({"claims": [{"id": "x", "claim": "y", "check": "hello world"}]}, r"claims\[0\].check = 'hello world': has no comp"),
    "claim about nothing": (
        {"claims": [{"id": "x", "claim": "y", "check": "fb-practise >= sgd"}]}, "no run 'fb-practise'; allowed: .*sgd",
    ),
    "two rows of one name": ({"tables.main.rows": [{"run": "sgd", "label": "x"}, {"run": "fb", "label": "x"}]},
                             r"tables.main.rows\[1\].label = 'x': another row of the table has it"),
    "late milestone": ({"runs.fb.schedule": {"unit": "epoch", "warmup": 0, "decay": "step", "milestones": [10, 301]}},
                       "runs.fb.schedule.milestones = 30.1 at scale mini: must be at most 30, the run's epochs"),
    "unknown penalty": ({"runs.fb-reg.penalty": {"name": "l1"}}, "runs.fb-reg.penalty.name = 'l1': allowed: .*gradient_norm"),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_each_mistake_in_a_paper_is_named(paper_file, changes, message):
    with pytest.raises(UserError, match=message):
        paper_file(changes)


def test_a_new_row_needs_yaml_only(paper_file):
    rows = [{"run": "mine", "label": "My row"}]
    tables = {name: {"title": "T", "rows": rows} for name in ("main", "fixed_dataset")}
    specs = paper_file({"runs.mine": {"like": "fb-clip", "lr": 0.2}, "tables": tables, "claims": []})
    assert [(key[1], spec.lr, spec.clip) for key, spec in specs.items()] == [("mine", pytest.approx(0.8), 0.25)] * 3


def test_a_network_of_ones_own_is_the_same_at_each_scale_that_does_not_name_it(paper_file):
    own = "torchvision.models:resnet18"
    specs = paper_file({"runs.sgd.model": own})
    models = {run: spec.model for (_, run, _), spec in specs.items()}
    assert (models["sgd"], models["fb"]) == (own, "resnet_mini")
    config = load_config(settings={"scales": {"mini": {"models": {own: "linear"}}}})
    assert scaled_spec(config, "geiping2022", "sgd", 0).model == "linear"


def test_rows_are_as_published():
    published = read_json(ROOT / "papers/published.json")
    assert sorted(published) == sorted(file.stem for file in (ROOT / "papers").glob("*.yaml"))
    for name, shipped in published.items():
        assert digests(load_paper(name)) == shipped
        tables = load_paper(name)["tables"].values()
        assert not any(row["edited"] for table in tables for row in table["rows"])


def test_a_row_that_is_edited_is_not_as_published(tmp_path, load_own_paper):
    shutil.copytree(ROOT / "papers", tmp_path, dirs_exist_ok=True)
    text = (tmp_path / "geiping2022.yaml").read_text()
    edit = ("fb-clip: {epochs: 3000", "fb-clip: {epochs: 2000")
    assert text.count(edit[0]) == 1
    tables = load_own_paper(text, edit, name="geiping2022")["tables"]
    assert {row["run"] for row in tables["main"]["rows"] if row["edited"]} == {"fb-clip"}
    assert {row["run"] for row in tables["architectures"]["rows"] if row["edited"]} >= {"fb-clip.resnet50"}
    # A number that is put beside another run is one, too.
    another = ("runs:\n", "runs:\n  fb-2: {like: fb}\n"), ("run: fb-reg, ", "run: fb-2, ")
    tables = load_own_paper(text, *another, name="geiping2022")["tables"]
    assert [row["label"] for row in tables["main"]["rows"] if row["edited"]] == ["FB regularized"]
