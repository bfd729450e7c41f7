"""What is loaded often stays cheap to load."""

import subprocess
import sys

import pytest

from whysgd.study.validation import ROOT


@pytest.mark.parametrize(
    ("code", "unwanted"),
    [
        ("import whysgd.study.plan", {"torch"}),
        (
            "from whysgd.study.figures import FIGURES, caption, needs; [(needs(f), caption(f)) for f in FIGURES]",
            {"matplotlib", "pandas", "numpy"},
        ),
        (
            "import whysgd.report.claims, whysgd.report.summary, whysgd.report.tables",
            {"torch", "seaborn", "matplotlib", "scipy.stats"},
        ),
    ],
    ids=["costs", "needs and captions of figures", "tables and summary"],
)
def test_loads_no_slow_library(code, unwanted):
    show = f"import sys; print(*sorted({unwanted!r} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{show}"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""
