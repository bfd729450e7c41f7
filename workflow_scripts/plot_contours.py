"""Rule plot_contours: the loss over a plane through the weights of every run of a table."""

from whysgd.warm import enter_script

enter_script()

import pandas as pd

from whysgd.reporting import figures, landscapes
from whysgd.reporting.script import logged
from whysgd.reporting.tables import setting_of


def plot_contours(table: dict, points: list[str], runs: str, outputs: list[str]) -> None:
    frame = pd.read_csv(runs)
    setting = setting_of(frame[frame.run.isin(landscapes.drawn_rows(table, "plane"))], device=False)
    figures.save_figure(landscapes.plot_contours(table, landscapes.read_points(points), setting), outputs)


if __name__ == "__main__":
    with logged(snakemake.log[0]):
        plot_contours(snakemake.params.table, snakemake.input.points, snakemake.input.runs, snakemake.output)
