"""Why jobs of a workflow failed: the last lines of their logs, found through Snakemake's own log."""

import re
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from whysgd.results.paths import RESULTS

LINES = 6
_ERROR = re.compile(r"Error in (?:rule|checkpoint|group) \S+")
# How a log ends whose job failed: a user's error, or what a traceback ends with, which may have lines of its own.
_BAD = re.compile(r"error: |\S+: error: |[\w.]*(Error|Exception)\b")
_TRACEBACK = "Traceback (most recent call last):"
_LOG = re.compile(r"^\s+log: (.*?)(?: \(check log file\(s\) for error details\))?$")


def failed_logs(text: str) -> list[str]:
    """Return the logs of the jobs that failed, from the text of Snakemake's log, each once."""
    found, failed = {}, False
    for line in text.splitlines():
        if _ERROR.match(line.strip()):
            failed = True
        elif failed and (match := _LOG.match(line)):
            found |= dict.fromkeys(match[1].split(", "))
            failed = False
    return list(found)


def bad_ends(folder: Path, since: float) -> list[Path]:
    """Return the logs under a folder, written since a time, that end with an error: all there is under `--quiet`."""
    logs = (file for file in folder.rglob("*.log") if file.stat().st_mtime >= since)
    return sorted(file for file in logs if _TRACEBACK in _last(file, 0) or any(map(_BAD.match, _last(file, 2))))


def explained(log: Path, folder: Path = RESULTS, lines: int = LINES) -> str:
    """Return what a user needs to read of each failed job: the path of its log and the last lines there.

    `log` is Snakemake's own, which is written from the start of the run on; the logs of jobs lie below `folder`.
    """
    logs, begin = failed_logs(log.read_text(encoding="utf-8", errors="replace")), 0.0
    with suppress(ValueError):  # The name of the log says when the run began.
        begin = datetime.strptime(log.name[:17], "%Y-%m-%dT%H%M%S").timestamp()
    files = list(map(Path, logs)) or bad_ends(folder, begin)
    ends = [(file, _last(file, lines) or ["(empty)"]) for file in files]
    parts = ["\n".join([f"{file} ends with:", *(f"  {line}" for line in last)]) for file, last in ends]
    return "\n".join(parts) or f"the workflow failed before a job could say why; see {log}"


def _last(file: Path, lines: int) -> list[str]:
    return file.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:] if file.is_file() else []
