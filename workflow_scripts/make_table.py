"""Rule make_table: a published table with the measured numbers beside it."""

import pandas as pd

from whysgd.files import write_text
from whysgd.report import tables
from whysgd.report.document import document
from whysgd.report.script import logged


def make_table(table: dict, paper: str, runs: str, measures: str | None, csv: str, md: str, tex: str, html: str):
    frame, measured = pd.read_csv(runs), None if measures is None else pd.read_csv(measures)
    lines = tables.make_table(table, paper, frame, measured)
    words = (
        table["title"],
        table["setting"],
        tables.setting_of(frame[frame.run.isin(lines.row[lines.n > 0])]),
        table["finding"],
    )
    write_text(csv, lines.to_csv(index=False, float_format="%.8f"))
    write_text(md, text := tables.to_markdown(lines, *words))
    write_text(html, document(text, table["title"]))
    write_text(tex, tables.to_latex(lines, *words))


if __name__ == "__main__":
    with logged(snakemake.log[0]):
        inputs, paper = snakemake.input, snakemake.wildcards.paper
        make_table(snakemake.params.table, paper, inputs.runs, inputs.get("measures"), **snakemake.output)
