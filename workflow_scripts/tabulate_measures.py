"""Rule tabulate_measures: every run, every measure: tidy, with a column for each quantity, and for readers."""

import pandas as pd

from whysgd.files import write_text
from whysgd.report.document import document
from whysgd.report.measures import readable, readable_to_markdown, wide
from whysgd.report.script import logged
from whysgd.report.tables import setting_of


def tabulate_measures(
    measures: list[str], runs: list[str], tidy: str, lines: str, csv: str, md: str, html: str
) -> None:
    found, trained = (pd.concat(map(pd.read_csv, files), ignore_index=True) for files in (measures, runs))
    whole = wide(found, trained)
    table = readable(whole)
    write_text(tidy, found.to_csv(index=False))
    write_text(lines, whole.to_csv(index=False))
    write_text(csv, table.to_csv(index=False))
    write_text(md, text := readable_to_markdown(table, setting_of(trained, device=False, measures=found)))
    write_text(html, document(text, "Every run, every ruler"))


if __name__ == "__main__":
    with logged(snakemake.log[0]):
        inputs, outputs = snakemake.input, snakemake.output
        tabulate_measures(
            inputs.measures, inputs.runs, outputs.tidy, outputs.wide, outputs.csv, outputs.md, outputs.html
        )
