"""Why jobs failed, from Snakemake's log and their own."""

import os
from datetime import datetime

import pytest

from whysgd.__main__ import main
from whysgd.results.failures import bad_ends, explained, failed_logs

# As Snakemake 9 writes it, in the loud and in the quiet of `--quiet rules`; a job that is tried again fails twice.
TOLD = """\
[Sat Nov 28 20:36:19 2026]
Error in rule train:
    message: None
    jobid: 74
    input: data/manifest.json
    output: runs/metrics.json
    log: {folder}/train/a.log (check log file(s) for error details)
    shell:
        exec python -m whysgd train
        (command exited with non-zero exit code)
Trying to restart job 74.
Error in rule train:
    jobid: 74
    log: {folder}/train/a.log (check log file(s) for error details)
Error in rule make_table:
    jobid: 3
    log: {folder}/table.log, {folder}/table2.log (check log file(s) for error details)
"""


@pytest.fixture
def logs(tmp_path):
    """A folder of logs, two of which end badly, and a function that writes Snakemake's own."""
    folder = tmp_path / "logs"
    (folder / "train").mkdir(parents=True)
    (folder / "train/a.log").write_text("".join(f"step {n}\n" for n in range(20)) + "error: a: cannot be written\n")
    (folder / "table.log").write_text("Traceback\n  File ...\nKeyError: 'x'\n")
    (folder / "fine.log").write_text("error: was mended\nstep 1\nstep 2\n")

    def write(text, name="2026-11-28T203351.929233.snakemake.log"):
        (tmp_path / name).write_text(text.format(folder=folder))
        return tmp_path / name

    write.folder = folder
    return write


def test_each_log_of_a_failed_job_is_named_once(logs):
    names = [str(logs.folder / name) for name in ("train/a.log", "table.log", "table2.log")]
    assert failed_logs(TOLD.format(folder=logs.folder)) == names
    assert failed_logs("Error in rule all:\n    jobid: 0\nFinished\n") == []


def test_the_last_lines_of_each_log_are_shown_with_its_path(logs, capsys):
    text = explained(logs(TOLD), logs.folder, lines=2)
    assert text.splitlines() == [
        f"{logs.folder}/train/a.log ends with:", "  step 19", "  error: a: cannot be written",
        f"{logs.folder}/table.log ends with:", "    File ...", "  KeyError: 'x'",
        f"{logs.folder}/table2.log ends with:", "  (empty)",
    ]  # fmt: skip
    assert main(["explain-failure", str(logs(TOLD))]) == 0
    assert "error: a: cannot be written" in capsys.readouterr().out


def test_where_snakemake_says_nothing_the_logs_that_end_badly_do(logs):
    """As with `--quiet all`; logs of a run before this one do not count."""
    begin = datetime(2026, 11, 28, 20, 33, 51).timestamp()
    for name, shift in (("train/a.log", 10), ("table.log", -10), ("fine.log", 10)):
        os.utime(logs.folder / name, (begin + shift,) * 2)
    assert bad_ends(logs.folder, begin) == [logs.folder / "train/a.log"]
    text = explained(logs(""), logs.folder)
    assert text.startswith(f"{logs.folder}/train/a.log ends with:\n")
    assert text.endswith("\n  error: a: cannot be written")
    assert "table.log" not in text
    # Without a time in the name of its log, all count.
    assert "KeyError" in explained(logs("", "snakemake.log"), logs.folder)


def test_a_failure_without_a_log_names_snakemakes(logs, tmp_path):
    log = logs("")
    assert explained(log, tmp_path / "none") == f"the workflow failed before a job could say why; see {log}"
