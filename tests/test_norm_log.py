import numpy as np
import pytest
from conftest import one_line

from whysgd.training.norm_log import norms_csv, read_norms

HEAD = "seed,step,gradient_norm\n"


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


# Logs, how many steps are read, and the norms of seed 3: from where that run diverged there is none.
LOGS = {
    "of two seeds": ("2,1,9\n2,2,9\n3,1,1\n3,2,2\n", 2, [1, 2]),
    "until it diverged": ("3,1,1\n3,2,2\n3,3,inf\n", 2, [1, 2]),
    "diverged": ("3,1,1\n3,2,2\n3,3,inf\n", 9, [1, 2, *7 * [np.nan]]),
    "diverged at once": ("3,1,nan\n", 3, 3 * [np.nan]),
    "finite again": ("3,1,1\n3,2,inf\n3,3,1\n", 3, [1, np.nan, np.nan]),
    "zero": ("3,1,0\n3,2,1\n", 2, [0, 1]),
}


@pytest.mark.parametrize(("lines", "steps", "expected"), LOGS.values(), ids=LOGS)
def test_each_step_has_the_norm_of_the_log(tmp_path, lines, steps, expected):
    found = read_norms(log(tmp_path, HEAD + lines), steps, 3)
    np.testing.assert_array_equal(found, expected)


NOT_EACH = "must have a norm, not below 0, at each of steps 1 to 3 of seed 3"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("seed,step,gradient_norm\n3,1,1\n3,2,1\n", NOT_EACH),
        ("seed,step,gradient_norm\n3,2,1\n3,3,1\n3,4,1\n", NOT_EACH),
        ("seed,step,gradient_norm\n3,1,1\n3,3,1\n3,2,1\n", NOT_EACH),
        ("seed,step,gradient_norm\n3,1,1\n3,1,1\n3,2,1\n3,3,1\n", NOT_EACH),
        ("seed,step,gradient_norm\n", NOT_EACH),
        ("seed,step,gradient_norm\n2,1,1\n2,2,1\n2,3,1\n", NOT_EACH),
        ("seed,step,gradient_norm\n3,1,1\n3,2,2\n3,3,-50\n", NOT_EACH),
        ("seed,step,gradient_norm\n3,1,one\n", "not a log of gradient norms"),
        ("seed,step,gradient_norm\n3,1\n", "not a log of gradient norms"),
        ("step,gradient_norm\n1,1\n", "has no column 'seed'; needs seed, step and gradient_norm"),
    ],
)
def test_a_log_that_cannot_serve_is_refused_with_its_path(tmp_path, text, problem):
    with one_line(problem) as error:
        read_norms(log(tmp_path, text), 3, 3)
    assert str(error.value).startswith(str(tmp_path))


def test_a_missing_log_is_named(tmp_path):
    with one_line("no such file; the run whose gradient norms are grafted comes first"):
        read_norms(tmp_path / "no.csv", 3, 0)
