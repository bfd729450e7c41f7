import numpy as np
import pytest
from conftest import one_line

from whysgd.errors import UserError
from whysgd.training.norm_log import norms_csv, read_norms


def log(tmp_path, text):
    file = tmp_path / "log.csv"
    file.write_text(text)
    return file


def test_norms_are_read_back_exactly_as_fp32(tmp_path):
    norms = np.random.default_rng(0).lognormal(0, 3, 500).astype(np.float32)
    file = log(tmp_path, norms_csv({0: norms.tolist()}))
    assert (read_norms(file, 500, 0).astype(np.float32) == norms).all()
    # A longer log is read as far as needed.
    assert (read_norms(file, 77, 0).astype(np.float32) == norms[:77]).all()


# Logs, the steps that are read, and their norms: between lines they are interpolated, and from where the other run
# diverged there is none.
LOGS = {
    "wider spacing": ("step,loss,gradient_norm\n1,9,1.0\n5,9,3.0\n9,9,1.0\n", 12, [1, 1.5, 2, 2.5, 3, 2.5, 2, 1.5, 1, 1, 1, 1]),
    "begun after a spacing, and a line without": ("step,gradient_norm\n4,2.0\n6,\n8,4.0\n", 8, [2, 2, 2, 2, 2.5, 3, 3.5, 4]),
    "until it diverged": ("step,gradient_norm\n1,1\n2,2\n3,inf\n", 2, [1, 2]),
    "diverged": ("step,gradient_norm\n1,1\n2,2\n3,inf\n", 9, [1, 2, *7 * [np.nan]]),
    "diverged, sparse": (
        "step,gradient_norm\n1,1\n21,2\n41,nan\n", 45, [*np.interp(np.arange(1, 41), [1, 21], [1, 2]), *5 * [np.nan]],
    ),
    "diverged at once": ("step,gradient_norm\n1,nan\n", 3, 3 * [np.nan]),
    "zero": ("step,gradient_norm\n1,0\n2,1\n", 2, [0, 1]),
}  # fmt: skip


@pytest.mark.parametrize(("text", "steps", "expected"), LOGS.values(), ids=LOGS)
def test_each_step_has_the_norm_of_the_log(tmp_path, text, steps, expected):
    np.testing.assert_allclose(read_norms(log(tmp_path, text), steps, 0), expected)


@pytest.mark.parametrize(
    ("text", "steps", "problem"),
    [
        ("step,gradient_norm\n1,1\n5,1\n9,1\n", 13, "is a log of steps 1 to 9, 4 apart at most; a run of 13 steps"),
        ("step,gradient_norm\n1,1\n2,1\n", 3, "is a log of steps 1 to 2"),
        ("step,gradient_norm\n9,1\n12,1\n", 12, "is a log of steps 9 to 12"),
        ("step,gradient_norm\n1,1\n3,1\n2,1\n", 3, "must increase from line to line"),
        ("step,gradient_norm\n1,1\n1,1\n", 1, "must increase from line to line"),
        ("step,gradient_norm\n", 1, "must increase from line to line, and have a line"),
        ("step,gradient_norm\n1,1\n21,2\n41,-50\n", 30, "gradient_norm at step 41 must be at least 0"),
        ("step,gradient_norm\n1,one\n", 1, "not a log of gradient norms"),
        ("step,norm\n1,1\n", 1, "has no column 'gradient_norm'; needs step and gradient_norm"),
    ],
)
def test_a_log_that_cannot_serve_is_refused_with_its_path(tmp_path, text, steps, problem):
    with one_line(problem) as error:
        read_norms(log(tmp_path, text), steps, 0)
    assert str(error.value).startswith(str(tmp_path))


def test_a_missing_log_is_named(tmp_path):
    with pytest.raises(UserError, match="no such file; the run whose gradient norms are grafted comes first"):
        read_norms(tmp_path / "no.csv", 3, 0)
