"""Rule tabulate_measures: every run, every measure: tidy, with a column for each quantity, and for readers."""

import pandas as pd

from whysgd.files import write_text
from whysgd.report.measures import TITLE, measures_table, wide
from whysgd.report.script import logged
from whysgd.report.table import document, to_csv, to_markdown
from whysgd.report.tables import setting_of


def tabulate_measures(
    measures: list[str], runs: list[str], tidy: str, lines: str, csv: str, md: str, html: str
) -> None:
    found, trained = (pd.concat(map(pd.read_csv, files), ignore_index=True) for files in (measures, runs))
    whole = wide(found, trained)
    table = measures_table(whole)
    setting = setting_of(trained, device=False, measures=found)
    blocks = [f"Measured: {setting}. Mean ± standard deviation over the seeds that finished.", table]
    write_text(tidy, found.to_csv(index=False))
    write_text(lines, whole.to_csv(index=False))
    write_text(csv, to_csv(table))
    write_text(md, to_markdown(blocks))
    write_text(html, document(blocks, TITLE))


if __name__ == "__main__":
    with logged(snakemake.log[0]):
        inputs, outputs = snakemake.input, snakemake.output
        tabulate_measures(
            inputs.measures, inputs.runs, outputs.tidy, outputs.wide, outputs.csv, outputs.md, outputs.html
        )
