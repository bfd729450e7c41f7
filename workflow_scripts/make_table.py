"""Rule make_table: a published table with the measured numbers beside it."""

import pandas as pd

from whysgd.files import write_text
from whysgd.report import tables
from whysgd.report.script import logged
from whysgd.report.table import document, to_latex, to_markdown


def make_table(table: dict, paper: str, runs: str, measures: str | None, csv: str, md: str, tex: str, html: str):
    frame, measured = pd.read_csv(runs), None if measures is None else pd.read_csv(measures)
    lines = tables.make_table(table, paper, frame, measured)
    setting = tables.setting_of(frame[frame.run.isin(lines.row[lines.n > 0])], scaled=table["scaled"])
    origin = f"Published: {table['setting']}. Measured: {setting}."
    shown = tables.presented(lines, paper, table["title"], origin, table["finding"])
    write_text(csv, lines.to_csv(index=False, float_format="%.8f"))
    write_text(md, to_markdown(shown))
    write_text(tex, to_latex(shown))
    write_text(html, document(shown, table["title"]))


if __name__ == "__main__":
    with logged(snakemake.log[0]):
        inputs, paper = snakemake.input, snakemake.wildcards.paper
        make_table(snakemake.params.table, paper, inputs.runs, inputs.get("measures"), **snakemake.output)
