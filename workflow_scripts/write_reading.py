"""Rule write_reading: what the measures say, in words that the numbers choose."""

import pandas as pd

from whysgd.files import write_text
from whysgd.report import reading
from whysgd.report.document import document
from whysgd.report.script import logged
from whysgd.report.tables import setting_of


def write_reading(correlations: str, measures: str, runs: list[str], md: str, html: str) -> None:
    trained = pd.concat(map(pd.read_csv, runs), ignore_index=True)
    measured = pd.read_csv(measures)
    setting = setting_of(trained, measures=measured)
    text = reading.write_reading(pd.read_csv(correlations), measured, trained, setting)
    write_text(md, text)
    write_text(html, document(text, reading.TITLE))


if __name__ == "__main__":
    with logged(snakemake.log[0]):
        inputs = snakemake.input
        write_reading(inputs.correlations, inputs.measures, inputs.runs, *snakemake.output)
