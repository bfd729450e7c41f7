"""Nothing that is read is run: pickles, archives, names and paths from YAML and JSON."""

import ast
import hashlib
import io
import json
import os
import pickle
import re
import shutil
import tarfile
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import yaml
from conftest import ROOT, error_of, make_spec, one_line
from test_data import cifar_archive  # noqa: F401, a fixture
from test_loop import assert_equal_results, results
from torchvision import datasets as tv

from whysgd.data.canonical import load_dataset
from whysgd.data.sources import load_torchvision
from whysgd.data.store import open_store
from whysgd.errors import UserError
from whysgd.measures.run import load_runs
from whysgd.results.metrics import with_checksum
from whysgd.results.records import write_records
from whysgd.study.config import load_config
from whysgd.study.names import LONGEST
from whysgd.study.spec import RunSpec
from whysgd.training.loop import train

# What could mean something to a shell, to a file system or to a program's options.
BAD_NAMES = [
    "a;touch x", "../x", "..", ".", "/etc/x", "$(id)", "`id`", "a b", "ü", "名", "-x", "--help", "a/b", "a\\b", "x\n", "a\nb",
    "", "~", "a*", "{x}", "'", '"', "a|b", "a&b", "a\0b", ".hidden", "x" * (LONGEST + 1),
]  # fmt: skip


class Trap:
    """Its pickle makes a file when it is loaded."""

    def __init__(self, file):
        self.file = str(file)

    def __reduce__(self):
        return os.mknod, (self.file,)


@pytest.fixture
def trap(tmp_path):
    """Pickles, plain and as torch saves them, and a check that none of them was loaded."""
    sprung = tmp_path / "sprung"
    plain = pickle.dumps(Trap(sprung))
    saved = io.BytesIO()
    torch.save(Trap(sprung), saved)
    yield {"plain": plain, "torch": saved.getvalue()}
    assert not sprung.exists()
    pickle.loads(plain)
    assert sprung.exists(), "the trap does not work"


@pytest.mark.parametrize("kind", ["plain", "torch"])
def test_a_pickle_in_the_place_of_a_file_is_not_loaded(data, whole, tmp_path, capsys, trap, kind):
    spec, data, run = make_spec(), shutil.copytree(data, tmp_path / "data"), tmp_path / "run"
    run.mkdir()
    for name in ("checkpoint.safetensors", "checkpoint.previous.safetensors"):
        (run / name).write_bytes(trap[kind])
    train([spec], data, run)
    assert "starting over" in capsys.readouterr().err
    assert_equal_results(results(whole), results(run))
    (run / "model.safetensors").write_bytes(trap[kind])
    with pytest.raises(UserError, match=r"model\.safetensors: was changed after the run wrote it"):
        next(load_runs(run, data))
    (data / "train.safetensors").write_bytes(trap[kind])
    with pytest.raises(UserError, match=r"train\.safetensors: not a readable data set"):
        load_dataset(data)
    for verify in (False, True):
        (tmp_path / "s.lmdb").write_bytes(trap[kind])
        with pytest.raises(UserError, match=r"s\.lmdb"):
            open_store(tmp_path / "s.lmdb", verify)


@pytest.mark.parametrize("name", ["data_batch_1", "test_batch", "batches.meta"])
def test_cifar_is_unpickled_only_if_it_is_the_published_file(cifar_archive, trap, name):  # noqa: F811
    archive, pixels = cifar_archive
    batch = archive.parent / tv.CIFAR10.base_folder / name
    for there in (True, False):
        batch.parent.mkdir(exist_ok=True)
        batch.write_bytes(trap["plain"])
        if there:  # The archive has the right file.
            assert (load_torchvision("cifar10", archive.parent).train.images == pixels[:5].reshape(5, 3, 32, 32)).all()
            archive.unlink()
    with pytest.raises(UserError, match="cifar10: cannot be downloaded or is damaged"):
        load_torchvision("cifar10", archive.parent)


# Members of an archive, each with its kind and the target of a link. {batch} is a published file, {out} an absolute path.
FILE, LINK, HARD, DEVICE, PIPE = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE
ESCAPES = {
    "a path upwards": [("../escaped", FILE, "")],
    "a path upwards from within": [("cifar-10-batches-py/../../escaped", FILE, "")],
    "an absolute path": [("{out}/escaped", FILE, "")],
    "a link and a path through it": [("link", LINK, ".."), ("link/escaped", FILE, "")],
    "the folder as a link": [("cifar-10-batches-py", LINK, "{out}"), ("cifar-10-batches-py/escaped", FILE, "")],
    "a hard link to a file outside": [("link", HARD, "../precious")],
    "a device": [("device", DEVICE, "")],
    "a batch that is a link": [("{batch}", LINK, "{out}/precious")],
    "a batch that is a hard link": [("{batch}", HARD, "../precious")],
    "a batch that is a pipe": [("{batch}", PIPE, "")],
    "a batch of another content, and a path upwards": [("{batch}", FILE, ""), ("../escaped", FILE, "")],
}  # fmt: skip


@pytest.mark.parametrize("escape", ESCAPES.values(), ids=ESCAPES.keys())
def test_an_archive_writes_the_published_files_and_no_others(cifar_archive, monkeypatch, trap, escape):  # noqa: F811
    (archive, pixels), folder = cifar_archive, tv.CIFAR10.base_folder
    place, out, batch = archive.parent, archive.parent.parent, f"{folder}/data_batch_1"
    (out / "precious").write_text("mine")
    with tarfile.open(archive, "w:gz") as tar:
        for name, kind, target in escape:
            info = tarfile.TarInfo(name.format(out=out, batch=batch))
            info.type, info.linkname, info.devmajor, info.devminor = kind, target.format(out=out), 1, 3
            info.size = len(trap["plain"]) if kind == FILE else 0
            tar.addfile(info, io.BytesIO(trap["plain"]))
        replaced = batch in tar.getnames()
        for file in sorted((out / "make").glob("*/*")):
            if not (replaced and file.name == "data_batch_1"):
                tar.add(file, f"{folder}/{file.name}")
    monkeypatch.setattr(tv.CIFAR10, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
    before = set(out.rglob("*"))
    if replaced:
        missing = f"cifar-10-python.tar.gz has no file {batch}"
        reason = "Dataset not found or corrupted" if escape[0][1] == FILE else missing
        with one_line(f"cifar10: cannot be downloaded or is damaged .{reason}"):
            load_torchvision("cifar10", place)
    else:
        assert (load_torchvision("cifar10", place).train.images == pixels[:5].reshape(5, 3, 32, 32)).all()
    published = {file.relative_to(out / "make") for file in (out / "make").rglob("*")}
    made = set(out.rglob("*")) - before
    assert {file.relative_to(place) for file in made} <= published | {Path(".cifar10.lock")}
    assert not any(file.is_symlink() for file in made)
    assert ((out / "precious").read_text(), (out / "precious").stat().st_nlink) == ("mine", 1)


def unsafe_calls(source: str) -> list[str]:
    """Calls and imports that run what they read, or hand it to a shell."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            found += [name for name in names if name.split(".")[0] in ("pickle", "marshal", "shelve", "dill", "joblib")]
        if not isinstance(node, ast.Call):
            continue
        name, given = ast.unparse(node.func), {key.arg: ast.unparse(key.value) for key in node.keywords}
        if name in ("eval", "exec", "os.system", "os.popen") or given.get("shell") == "True":
            found.append(name)
        if name == "torch.load" and given.get("weights_only") != "True":
            found.append(name)
        if given.get("allow_pickle") == "True" or name.endswith(("extractall", "yaml.unsafe_load", "yaml.full_load")):
            found.append(name)
        if name == "yaml.load" and [ast.unparse(one) for one in node.args[1:]] != ["_Loader"]:
            found.append(name)
    return found


@pytest.mark.parametrize("line", [
    "import pickle", "from pickle import loads", "eval(x)", "os.system(x)", "subprocess.run(x, shell=True)", "torch.load(x)",
    "np.load(x, allow_pickle=True)", "tar.extractall(x)", "yaml.load(x, yaml.Loader)",
])  # fmt: skip
def test_an_unsafe_call_would_be_found(line):
    assert unsafe_calls(line)


def test_nothing_in_the_package_runs_what_it_reads():
    files = [file for folder in ("whysgd", "workflow_scripts", "benchmarks") for file in ROOT.glob(f"{folder}/**/*.py")]
    assert len(files) > 100
    assert {file.name: found for file in files if (found := unsafe_calls(file.read_text(encoding="utf-8")))} == {}


# What needs no quotes in a rule's shell command: numbers, words of a schema's list, options made of such, and names.
BARE = {
    "threads", "params.seeds", "params.options", "params.measures", "wildcards.kind", "wildcards.seed", "wildcards.chunk", "wildcards.chunks",
    "resources.device", "resources.engine", "resources.images_on", "resources.checkpoint_seconds",
    "resources.tensorboard", "resources.wait_seconds",
}  # fmt: skip


def test_every_path_in_a_shell_command_is_quoted():
    bare, quoted = set(), set()
    for file in [*ROOT.glob("rules/*.smk"), ROOT / "Snakefile"]:
        for command in re.findall(r"\bshell\b:?\s*\(?\s*((?:f?\"[^\n]*\"\s*)+)", file.read_text(encoding="utf-8")):
            for name in re.findall(r"(?<!\{)\{([\w.:]+)\}", command):
                (quoted if name.endswith(":q") else bare).add(name.removesuffix(":q"))
    assert {"log", "params.spec", "output.store", "resources.data_dir", "params.datasets"} <= quoted
    assert bare <= BARE, bare - BARE


PLACES = {
    "a scale": lambda name: {"scale": name, "scales": {name: {"seeds": [0]}}},
    "a data set": lambda name: {"datasets": {name: {"source": "image_folder", "path": "x"}}},
    "a data set of a scale": lambda name: {"scales": {"mini": {"datasets": {"*": name}}}},
    "a network of a scale": lambda name: {"scales": {"mini": {"models": {"*": name}}}},
    "a paper": lambda name: {"papers": [name]},
    "a table of a scale": lambda name: {"scales": {"mini": {"tables": {"geiping2022": [name]}}}},
    "a skipped row": lambda name: {"scales": {"mini": {"skip": {"geiping2022": [name]}}}},
    "an engine": lambda name: {"engine": name},
    "a device": lambda name: {"device": name},
    "a measure": lambda name: {"measures": [name]},
}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES.keys())
@pytest.mark.parametrize("name", BAD_NAMES, ids=ascii)
def test_a_configuration_with_a_name_that_is_none_is_refused(tmp_path, place, name):
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(place(name)))
    with pytest.raises(UserError) as caught:
        load_config([tmp_path / "own.yaml"])
    # A line for each problem.
    assert all(f"{tmp_path}/own.yaml: " in line for line in str(caught.value).split("\n")), str(caught.value)


PAPER = """
paper: mine
title: t
defaults: {dataset: digits, model: resnet_mini, batch: micro_batch, micro_batch: 8, lr: 0.1, schedule: {unit: epoch, warmup: 0, decay: constant}}
runs:
  one: {epochs: 3}
tables:
  main: {title: t, rows: [{run: one, label: l}]}
claims:
  - {id: c1, claim: text, check: one >= 10}
"""  # fmt: skip
PARTS = {
    "paper: mine": "paper: {}", "  one:": "  {}:", "run: one": "run: {}", "  main:": "  {}:", "id: c1": "id: {}",
    "dataset: digits": "dataset: {}", "model: resnet_mini": "model: {}", "epochs: 3": "like: {}",
}  # fmt: skip


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("name", BAD_NAMES, ids=ascii)
def test_a_paper_with_a_name_that_is_none_is_refused_in_one_line(load_own_paper, part, name):
    assert load_own_paper(PAPER)["paper"] == "mine"
    with one_line(r"mine\.yaml"):
        load_own_paper(PAPER, (part, PARTS[part].format(json.dumps(name))))


def test_names_that_one_file_system_takes_for_the_same_are_refused(tmp_path, load_own_paper):
    with pytest.raises(UserError, match=r"papers/mine\.yaml: runs: one and One: differ in case alone"):
        load_own_paper(PAPER, ("  one: {epochs: 3}", "  one: {epochs: 3}\n  One: {epochs: 3}"))
    for content, message in (
        ({"scales": {"Mini": {"seeds": [0]}}}, "scales.*: mini and Mini: differ in case alone"),
        ({"scales": {"data": {"seeds": [0]}}}, r"scales\.data: the name is taken"),
        ({"datasets": {"Digits": {"source": "image_folder", "path": "x"}}}, "datasets.*igits and .*igits: differ in case alone"),
    ):  # fmt: skip
        (tmp_path / "own.yaml").write_text(yaml.safe_dump(content))
        with pytest.raises(UserError, match=message):
            load_config([tmp_path / "own.yaml"])


@pytest.mark.parametrize("key", ["paper", "run", "scale", "dataset", "model"])
@pytest.mark.parametrize("name", BAD_NAMES, ids=ascii)
def test_a_specification_from_the_command_line_cannot_leave_results(tmp_path, monkeypatch, capsys, key, name):
    monkeypatch.chdir(tmp_path)
    values = {**make_spec().to_dict(), key: name}
    with pytest.raises(ValueError, match=rf"{key} = .*: must be a name"):
        RunSpec.from_dict(values)
    assert error_of(capsys, "train", "--spec", json.dumps(values)).startswith(f"error: train: --spec: {key} = ")
    assert list(tmp_path.iterdir()) == []


def test_a_grafted_run_and_a_store_cannot_leave_results(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    values = {**make_spec(clip=None).to_dict(), "transform": {"name": "exter_graft", "reference": "../../x"}}
    with pytest.raises(ValueError, match=r"transform\.reference = '\.\./\.\./x': must be a name"):
        RunSpec.from_dict(values)
    assert "build-store: '../x': must be a name" in error_of(capsys, "build-store", "../x", "--copies", 2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("key", ["paper", "run", "scale"])
def test_a_record_of_crafted_metrics_cannot_leave_its_folder(data, tmp_path, key):
    train([make_spec()], data, tmp_path / "run")
    content = json.loads((tmp_path / "run/metrics.json").read_text())
    content |= {key: "../../escaped", "settings": {**content["settings"], key: "../../escaped"}}
    del content["checksum"]
    (tmp_path / "run/metrics.json").write_text(json.dumps(with_checksum(content)))
    with pytest.raises(UserError, match=rf"{key} = '\.\./\.\./escaped': must be a name"):
        write_records([tmp_path / "run"], root=tmp_path / "a/b/records")
    assert not list(tmp_path.rglob("*escaped*"))


YAML = {
    "a tag that calls": "scale: !!python/object/apply:os.system ['touch sprung']",
    "a list as a key": "? [a, b]\n: 1",
    "a mapping as a key": "? {a: b}\n: 1",
    "itself inside": "scales: &a\n  x: *a",
    "very deep": "a: " + "[" * 20_000,
    "a control character": "a: \x01",
    "bytes": "scale: !!binary aGk=",
    "a billion laughs": "a: &a [x]\n" + "\n".join(f"{c}: &{c} [{', '.join([f'*{b}'] * 9)}]" for b, c in pairwise("abcdefghi")),
}  # fmt: skip


@pytest.mark.parametrize("text", YAML.values(), ids=YAML.keys())
def test_yaml_that_is_more_than_data_is_refused(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    Path("own.yaml").write_text(text + "\n")
    with pytest.raises(UserError) as caught:
        load_config(["own.yaml"])
    assert all(re.search(r"own\.yaml:(\d+:)? ", line) for line in str(caught.value).split("\n")), str(caught.value)
    assert not Path("sprung").exists()
