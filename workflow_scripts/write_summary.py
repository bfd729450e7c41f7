"""Rule write_summary: what the measures show, in tables and sentences that the numbers choose."""

import pandas as pd

from whysgd.files import write_text
from whysgd.report.script import logged
from whysgd.report.summary import TITLE, summary_blocks
from whysgd.report.table import Heading, document, to_markdown
from whysgd.report.tables import setting_of


def write_summary(correlations: str, measures: str, runs: list[str], md: str, html: str) -> None:
    trained = pd.concat(map(pd.read_csv, runs), ignore_index=True)
    measured = pd.read_csv(measures)
    blocks = summary_blocks(pd.read_csv(correlations), measured, trained, setting_of(trained, measures=measured))
    write_text(md, to_markdown([Heading(TITLE, 1), *blocks]))
    write_text(html, document(blocks, TITLE))


if __name__ == "__main__":
    with logged(snakemake.log[0]):
        inputs = snakemake.input
        write_summary(inputs.correlations, inputs.measures, inputs.runs, *snakemake.output)
