"""Rule plot_landscape: the loss around the weights of a table's runs, along a line or over a plane."""

import pandas as pd

from whysgd.measures.catalog import LANDSCAPES
from whysgd.report import figures, landscapes
from whysgd.report.script import logged
from whysgd.report.tables import setting_of


def plot_landscape(table: dict, view: str, points: list[str], runs: str, outputs: list[str]) -> None:
    frame = pd.read_csv(runs)
    setting = setting_of(frame[frame.run.isin(landscapes.drawn_rows(table, LANDSCAPES[view]))], device=False)
    figures.save_figure(
        landscapes.VIEWS[view](table, landscapes.read_points(points, LANDSCAPES[view]), setting), outputs
    )


if __name__ == "__main__":
    with logged(snakemake.log[0]):
        inputs, view = snakemake.input, snakemake.wildcards.view
        plot_landscape(snakemake.params.table, view, inputs.points, inputs.runs, snakemake.output)
