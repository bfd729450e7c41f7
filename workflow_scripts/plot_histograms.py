"""Rule plot_histograms: sharpness and accuracy over the seeds of every row of a table."""

import pandas as pd

from whysgd.report import figures, histograms
from whysgd.report.landscapes import drawn_rows
from whysgd.report.script import logged
from whysgd.report.tables import setting_of


def plot_histograms(table: dict, measures: str, runs: str, outputs: list[str]) -> None:
    frame = pd.read_csv(runs)
    setting = setting_of(frame[frame.run.isin(drawn_rows(table))], device=False)
    figures.save_figure(histograms.plot_histograms(table, pd.read_csv(measures), frame, setting), outputs)


if __name__ == "__main__":
    with logged(snakemake.log[0]):
        inputs = snakemake.input
        plot_histograms(snakemake.params.table, inputs.measures, inputs.runs, snakemake.output)
