"""Rule plot_comparison: measured accuracy against the published one."""

import pandas as pd

from whysgd.report import figures
from whysgd.report.script import logged
from whysgd.report.tables import setting_of


def plot_comparison(table: dict, lines: str, runs: str, outputs: list[str]) -> None:
    shown, frame = pd.read_csv(lines), pd.read_csv(runs)
    frame = frame[frame.run.isin(shown.row)]
    figure = figures.plot_comparison(table, shown, frame, setting_of(frame, device=False))
    figures.save_figure(figure, outputs)


if __name__ == "__main__":
    with logged(snakemake.log[0]):
        plot_comparison(snakemake.params.table, snakemake.input.table, snakemake.input.runs, snakemake.output)
