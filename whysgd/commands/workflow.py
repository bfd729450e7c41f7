"""`whysgd explain-failure` and `whysgd schema`, which the workflow and its developers use."""

from whysgd.commands._shared import a_path, add_command
from whysgd.files import write_text


def add(commands) -> None:
    """Add the commands."""
    told = "the last lines of the logs of jobs that failed"
    examples = ['whysgd explain-failure "$(ls -t .snakemake/log/*.log | head -1)"']
    failure = add_command(commands, "explain-failure", _explain_failure, told, examples)
    failure.add_argument("log", type=a_path, help="Snakemake's own log of the run")
    add_command(commands, "schema", _schema, "write config/schema/ and docs/settings*.md again", ["whysgd schema"])


def _explain_failure(options) -> None:
    from whysgd.results.failures import explained

    print(explained(options.log), flush=True)


def _schema(options) -> None:
    from whysgd.study.reference import files
    from whysgd.study.validation import ROOT

    for path, text in files().items():
        write_text(ROOT / path, text)
        print(path)
