"""Rule summarize_measures: every run with every measure, as tables, as a figure and in words."""

import pandas as pd

from whysgd.files import write_text
from whysgd.report import correlation_figure, figures
from whysgd.report.correlations import correlate
from whysgd.report.document import document
from whysgd.report.measures import readable, readable_to_markdown, wide
from whysgd.report.reading import TITLE, write_reading
from whysgd.report.script import logged
from whysgd.report.tables import setting_of


def summarize_measures(measures: list[str], runs: list[str], outputs) -> None:
    found, trained = (pd.concat(map(pd.read_csv, files), ignore_index=True) for files in (measures, runs))
    lines, setting = wide(found, trained), setting_of(trained, device=False, measures=found)
    table, correlations = readable(lines), correlate(lines)
    for file, frame in (
        (outputs.tidy, found), (outputs.wide, lines), (outputs.csv, table), (outputs.correlations, correlations),
    ):  # fmt: skip
        write_text(file, frame.to_csv(index=False))
    summary = write_reading(correlations, found, trained, setting_of(trained, measures=found))
    for md, html, text, title in (
        (outputs.md, outputs.html, readable_to_markdown(table, setting), "Every run, every measure"),
        (outputs.summary_md, outputs.summary_html, summary, TITLE),
    ):
        write_text(md, text)
        write_text(html, document(text, title))
    figures.save_figure(correlation_figure.plot_correlations(correlations, setting), [outputs.svg, outputs.png])


if __name__ == "__main__":
    with logged(snakemake.log[0]):
        summarize_measures(snakemake.input.measures, snakemake.input.runs, snakemake.output)
