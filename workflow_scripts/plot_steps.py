"""Rule plot_steps: a measure of every run of a table over update steps."""

import pandas as pd

from whysgd.report import figures, steps
from whysgd.report.script import logged
from whysgd.report.tables import setting_of


def plot_steps(table: dict, colours: dict, measure: str, runs: str, histories: str, outputs: list[str]) -> None:
    names = [row["run"] for row in table["rows"]]
    frame = pd.read_csv(runs)
    setting = setting_of(frame[frame.run.isin(names)], device=False)
    figure = steps.plot_steps(table, pd.read_csv(histories), measure, colours, setting)
    figures.save_figure(figure, outputs)


if __name__ == "__main__":
    with logged(snakemake.log[0]):
        params, inputs, measure = snakemake.params, snakemake.input, snakemake.wildcards.measure
        plot_steps(params.table, params.colours, measure, inputs.runs, inputs.histories, snakemake.output)
