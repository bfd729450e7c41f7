"""Rule plot_curves: the course of every run of a table."""

import pandas as pd

from whysgd.report import figures
from whysgd.report.script import logged
from whysgd.report.tables import setting_of


def plot_curves(table: dict, runs: str, histories: str, outputs: list[str]) -> None:
    names = [row["run"] for row in table["rows"]]
    frame = pd.read_csv(runs)
    setting = setting_of(frame[frame.run.isin(names)], device=False)
    figure = figures.plot_curves(table, pd.read_csv(histories), setting)
    figures.save_figure(figure, outputs)


if __name__ == "__main__":
    with logged(snakemake.log[0]):
        plot_curves(snakemake.params.table, snakemake.input.runs, snakemake.input.histories, snakemake.output)
