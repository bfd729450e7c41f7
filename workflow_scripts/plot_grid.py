"""Rule plot_grid: a measured quantity over the grid of a table, as lines or as a map."""

import pandas as pd

from whysgd.report import figures, tail_figures
from whysgd.report.script import logged
from whysgd.report.tables import setting_of

VIEWS = {"width": tail_figures.plot_width, "heatmap": tail_figures.plot_heatmap}


def plot_grid(table: dict, view: str, measures: str, runs: str, outputs: list[str]) -> None:
    frame = pd.read_csv(runs)
    setting = setting_of(frame[frame.run.isin(row["run"] for row in table["rows"])], device=False)
    figures.save_figure(VIEWS[view](table, pd.read_csv(measures), setting), outputs)


if __name__ == "__main__":
    with logged(snakemake.log[0]):
        inputs, view = snakemake.input, snakemake.wildcards.view
        plot_grid(snakemake.params.table, view, inputs.measures, inputs.runs, snakemake.output)
