"""Rule summarize_measures: every run with every measure, as tables, as a figure and in words."""

import pandas as pd

from whysgd.files import write_text
from whysgd.report.correlation_figure import plot_correlations
from whysgd.report.correlations import correlate
from whysgd.report.frame import read_frame
from whysgd.report.measures import measures_table, wide
from whysgd.report.script import logged
from whysgd.report.style import save_figure
from whysgd.report.summary import SUMMARY, summary_blocks
from whysgd.report.table import document, to_markdown
from whysgd.report.tables import setting_of


def summarize_measures(measures: list[str], runs: list[str], outputs) -> None:
    found, trained = (pd.concat(map(read_frame, files), ignore_index=True) for files in (measures, runs))
    lines, setting = wide(found, trained), setting_of(trained, device=False, measures=found)
    correlations = correlate(lines)
    for file, frame in ((outputs.tidy, found), (outputs.wide, lines), (outputs.correlations, correlations)):
        write_text(file, frame.to_csv(index=False))
    table = measures_table(lines)
    blocks = [f"Measured: {setting}. Mean ± standard deviation over the seeds that finished.", table]
    write_text(outputs.md, to_markdown(blocks))
    write_text(outputs.html, document(blocks, table.title))
    summary = summary_blocks(correlations, found, trained, setting_of(trained, measures=found))
    write_text(outputs.summary_md, f"# {SUMMARY}\n\n{to_markdown(summary)}")
    write_text(outputs.summary_html, document(summary, SUMMARY))
    save_figure(plot_correlations(correlations, setting), outputs.svg, outputs.png)


if __name__ == "__main__":
    with logged(snakemake.log[0]):
        summarize_measures(snakemake.input.measures, snakemake.input.runs, snakemake.output)
