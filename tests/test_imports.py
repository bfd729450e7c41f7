"""What is loaded often stays cheap to load."""

import tomllib
from importlib.metadata import packages_distributions

import pytest
from conftest import ROOT, python
from packaging.requirements import Requirement

# What the rules do while Snakemake parses them.
RULES = """
import whysgd.study.outputs, whysgd.results.recorded
from whysgd.study.codedigest import code_digest
from whysgd.study.config import load_config
from whysgd.study.workflow import Study
Study(load_config())
code_digest("whysgd.training.loop")
"""


@pytest.mark.parametrize(
    ("code", "unwanted"),
    [
        ("import whysgd.__main__", {"pydantic", "yaml"}),  # Ctrl-C before `main` begins is a traceback.
        ("import whysgd.study.plan", {"torch"}),
        ("from whysgd.__main__ import command_line; command_line()", {"torch", "pandas", "numpy", "snakemake", "tabulate", "scipy"}),
        ("import whysgd.report.difference, whysgd.report.shown", {"torch", "pandas", "numpy"}),
        ("from whysgd.study.figures import FIGURES, caption, needs; [(needs(f), caption(f)) for f in FIGURES]", {"matplotlib", "pandas", "numpy"}),
        ("import whysgd.report.claims, whysgd.report.summary, whysgd.report.tables", {"torch", "seaborn", "matplotlib", "scipy.stats"}),
        (RULES, {"torch", "numpy", "pandas", "scipy", "sklearn", "matplotlib"}),
    ],
    ids=["the start", "costs", "command line", "show and diff", "needs and captions of figures", "tables and summary", "the rules"],
)  # fmt: skip
def test_loads_no_slow_library(code, unwanted):
    show = f"import sys; print(*sorted({unwanted!r} & set(sys.modules)))"
    assert python("-c", f"{code}\n{show}").stdout.strip() == ""


BLOCKED = """
import sys
from importlib import import_module

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocked())
import whysgd
from whysgd.__main__ import main
from whysgd.study.registry import names
for name in whysgd.__all__:
    getattr(whysgd, name)
for name in [*names("measure"), "landscape"]:
    getattr(import_module(f"whysgd.measures.{name}"), name)
sys.exit(main(["plan"]))
"""


def test_what_users_import_needs_no_package_of_the_pipeline():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    ours = {Requirement(one).name for one in extras["pipeline"]}
    blocked = [module for module, packages in packages_distributions().items() if ours & set(packages)]
    assert {"snakemake", "sklearn", "PIL"} <= set(blocked)
    code = f"BLOCKED = {blocked!r}\n{BLOCKED}"
    done = python("-c", code, check=False)
    assert done.stderr == "error: needs tabulate, which is not installed: pip install 'whysgd[pipeline]'\n"
    assert done.returncode == 1
