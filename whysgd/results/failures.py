"""Why jobs of a workflow failed: the last lines of their logs, found through Snakemake's own log."""

import re
from pathlib import Path

LINES = 6
_ERROR = re.compile(r"^Error in (?:rule|checkpoint) (\S+?),?:?$|^Error in (?:rule|group) (\S+?)[,:]")
_LOG = re.compile(r"^\s+log: (.*?)(?: \(check log file\(s\) for error details\))?$")


def failed_jobs(text: str) -> list[tuple[str, list[str]]]:
    """Return the rule and the logs of each job that failed, from the text of Snakemake's log, each once."""
    found: dict[tuple, None] = {}
    rule = None
    for line in text.splitlines():
        if match := _ERROR.match(line.strip()):
            rule = match[1] or match[2]
        elif rule and (match := _LOG.match(line)):
            found[rule, tuple(match[1].split(", "))] = None
            rule = None
    return [(rule, list(logs)) for rule, logs in found]


def explained(log: Path, lines: int = LINES) -> str:
    """Return what a user needs to read of each failed job: the path of its log and the last lines there."""
    parts = []
    for rule, logs in failed_jobs(log.read_text(encoding="utf-8", errors="replace")):
        for file in map(Path, logs):
            there = file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else []
            told = [f"  {line}" for line in there[-lines:]] or ["  (empty)"]
            parts.append("\n".join([f"{rule} failed; {file} ends with:", *told]))
    return "\n".join(parts) or f"the workflow failed before a job could log why; see {log}"
