"""What a digest of code covers: the loop and what a run uses, and nothing that changes no number."""

import shutil

import pytest
from conftest import ROOT, make_spec

from whysgd.study import codedigest, registry
from whysgd.study.codedigest import code_digest, landscape_code, measuring_code, training_code

CACHED = (code_digest, codedigest._place, codedigest.read, registry.constants, registry._sources, registry._files)


def forget():
    for cached in CACHED:
        cached.cache_clear()


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A copy of the package that tests edit and put back; a file that is as it was is not parsed again."""
    folder, known = tmp_path_factory.mktemp("edited"), {}
    shutil.copytree(ROOT / "whysgd", folder / "whysgd", ignore=shutil.ignore_patterns("__pycache__"))

    def read(path):
        content = path, path.read_bytes()
        known[content] = known.get(content) or CACHED[2].__wrapped__(path)
        return known[content]

    with pytest.MonkeyPatch.context() as patch:
        for module in (codedigest, registry):
            patch.setattr(module, "ROOT", folder)
        patch.setattr(codedigest, "read", read)
        yield folder / "whysgd"
    forget()


@pytest.fixture(scope="module")
def before(package):
    return digests()


RUNS = {
    "plain": make_spec(penalty=None, clip=None),
    "clipped": make_spec(penalty=None),
    "penalized": make_spec(clip=None),
    "GN": make_spec(clip=None, penalty={"name": "micro_batch_gradient_norm", "strength": 0.1}),
    "grafted": make_spec(penalty=None, clip=None, transform={"name": "iter_graft"}),
    "linear": make_spec(penalty=None, clip=None, schedule={"unit": "run", "decay": "linear"}, model="fc_d2_w4"),
}
MEASURES = ("flatness", "hessian")


def digests():
    """The digest of each run's training, and of each measure of the first."""
    forget()
    trained = {name: training_code(spec) for name, spec in RUNS.items()}
    measured = {measure: measuring_code(RUNS["plain"], measure) for measure in MEASURES}
    return trained | measured | {"landscape": landscape_code(RUNS["plain"])}


MEASURED = (*MEASURES, "landscape")
TRAINED, PLAIN_NETWORK = set(RUNS), {*(set(RUNS) - {"linear"}), *MEASURED}
NEW_PENALTY = """
def mine(micro_batches, settings):
    return 0
"""
# The file, a text in it, what stands there then (or a whole new file), and whose digests change.
EDITS = {
    "the times of schedules": ("study/schedule.py", "round(", "int(", {*TRAINED, "landscape"}),
    "how images are read": ("measures/run.py", "import", "SOMETHING = 1\nimport", {*MEASURED, "landscape"}),
    "the loop": ("training/loop.py", "import", "SOMETHING = 1\nimport", TRAINED),
    "the loss": ("training/losses.py", "import torch\n", "import torch\n\nSOMETHING = 1\n", {*TRAINED, *MEASURED}),
    "a new penalty": ("training/penalties/mine.py", None, NEW_PENALTY, set()),
    "a new network": ("models/mine.py", None, 'NETWORKS = {"mine": {}}\n\ndef mine(channels, classes, size):\n    pass\n', set()),
    "a new measure": ("measures/mine.py", None, 'QUANTITIES = {"mine": ("mine", "")}\n\ndef mine(model, images):\n    pass\n', set()),
    "another size of a network": ("models/resnet.py", '"resnet_mini":', '"resnet_tiny": {},\n    "resnet_mini":', set()),
    "the size of the network": ("models/resnet.py", '"depths": (1, 1)', '"depths": (1, 2)', PLAIN_NETWORK),
    "the network": ("models/resnet.py", "class Block", "SOMETHING = 1\n\n\nclass Block", PLAIN_NETWORK),
    "another network": ("models/vgg.py", "class VGG", "SOMETHING = 1\n\n\nclass VGG", set()),
    "layers": ("models/layers.py", "import torch\n", "SOMETHING = 1\nimport torch\n", {*TRAINED, *MEASURED}),
    "the published penalty": ("training/penalties/gradient_norm.py", "/ 4", "/ 2", {"penalized"}),
    "the label of a penalty": ("training/penalties/gradient_norm.py", 'LABEL = "', 'LABEL = "the ', set()),
    "a default of a penalty": ("training/penalties/gradient_norm.py", "= 0.5", "= 0.25", set()),
    "the description of a setting": ("training/penalties/gradient_norm.py", "Length of", "The length of", set()),
    "a penalty on micro-batches": ("training/penalties/micro_batch_gradient_norm.py", "LABEL =", "SOMETHING = 1\nLABEL =", {"GN"}),
    "a graft": ("training/transforms/iter_graft.py", "gradient *", "2 * gradient *", {"grafted"}),
    "clipping": ("training/transforms/clip.py", "+ 1e-6)).where", "+ 1e-7)).where", {"clipped"}),
    "a schedule": ("training/schedules/linear.py", "1.0 -", "2.0 -", {"linear"}),
    "the default schedule of the tests": ("training/schedules/cosine.py", "0.5", "0.4", TRAINED - {"linear"}),
    "the optimizer": ("training/optimizers/sgd.py", "\ndef sgd", "\nSOMETHING = 1\n\n\ndef sgd", TRAINED),
    "a measure": ("measures/flatness.py", "import torch\n", "import torch\n\nSOMETHING = 1\n", {"flatness"}),
    "the unit of a quantity": ("measures/flatness.py", '"filter norms"', '"norms"', set()),
    "a check of a setting": ("study/schedule.py", "must be at most 1", "must not exceed 1", set()),
    "how configurations are read": ("study/config.py", "SAME =", "SOMETHING = 1\nSAME =", set()),
    "a key of papers": ("study/paper.py", "class Claim", "SOMETHING = 1\n\n\nclass Claim", set()),
    "a figure": ("report/figures/curves.py", "def curves", "SOMETHING = 1\n\n\ndef curves", set()),
}  # fmt: skip


@pytest.mark.parametrize(("file", "old", "new", "changed"), EDITS.values(), ids=EDITS.keys())
def test_an_edit_changes_the_digests_of_those_who_use_it(package, before, file, old, new, changed):
    path = package / file
    text = path.read_text() if old else ""
    assert old is None or old in text
    path.write_text(text.replace(old, new, 1) if old else new)
    after = digests()
    if old:
        path.write_text(text)
    else:
        path.unlink()
    assert {name for name in before if before[name] != after[name]} == changed


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A package of three modules."""
    folder = tmp_path / "whysgd"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "top.py").write_text("from whysgd.below import f\n\ndef g():\n    return f()\n")
    (folder / "below.py").write_text("def f():\n    return 1\n")
    monkeypatch.setattr(codedigest, "ROOT", tmp_path)
    forget()
    yield folder
    forget()


def digest_with(project, **files):
    for name, text in files.items():
        (project / f"{name}.py").write_text(text)
    forget()
    return code_digest("whysgd.top")


def test_comments_docstrings_and_layout_do_not_count(project):
    before = digest_with(project)
    text = '"""Doc."""\n\n\ndef f(x=0):\n    "Doc."\n    # why\n    return (1)\n'
    plain = digest_with(project, below="def f(x=0):\n    return 1\n")
    assert plain != before
    assert digest_with(project, below=text) == plain


def test_code_counts_through_imports_also_local_ones(project):
    found = {digest_with(project), digest_with(project, below="def f():\n    return 2\n")}
    found.add(digest_with(project, top="def g():\n    import whysgd.below\n    return whysgd.below.f()\n"))
    found.add(digest_with(project, below="def f():\n    return 3\n"))
    assert len(found) == 4


def test_texts_count_except_in_errors(project):
    def with_text(text, error):
        raised = f"raise KeyError(f'{error} {{g}}')"
        return digest_with(project, below=f"def f():\n    if g:\n        {raised}\n    return '{text}'\n")

    assert with_text("a", "no") == with_text("a", "never")
    plain = "def f():\n    if g:\n        raise KeyError('no value')\n    return 'a'\n"
    assert with_text("a", "no") == digest_with(project, below=plain)
    assert with_text("a", "no") != with_text("b", "no")


def test_a_module_from_elsewhere_may_import_its_neighbours(tmp_path, monkeypatch):
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package/mine.py").write_text("from . import other\n\ndef mine(micro_batches):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert code_digest("whysgd.streams", using=(("penalty", "my_package.mine:mine"),)) != code_digest("whysgd.streams")


def test_an_entry_that_is_not_there_is_named():
    with pytest.raises(FileNotFoundError, match=r"whysgd\.nothing"):
        code_digest("whysgd.nothing")
