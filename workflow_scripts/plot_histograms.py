"""Rule plot_histograms: sharpness and accuracy over the seeds of every row of a table."""

from whysgd.warm import enter_script

enter_script()

import pandas as pd

from whysgd.reporting import figures, histograms
from whysgd.reporting.landscapes import drawn_rows
from whysgd.reporting.script import logged
from whysgd.reporting.tables import setting_of


def plot_histograms(table: dict, measures: str, runs: str, outputs: list[str]) -> None:
    frame = pd.read_csv(runs)
    setting = setting_of(frame[frame.run.isin(drawn_rows(table))], device=False)
    figures.save_figure(histograms.plot_histograms(table, pd.read_csv(measures), frame, setting), outputs)


if __name__ == "__main__":
    with logged(snakemake.log[0]):
        inputs = snakemake.input
        plot_histograms(snakemake.params.table, inputs.measures, inputs.runs, snakemake.output)
