"""Rule plot_noise: the gradient noise of the runs of a table, along the steps or as histograms of its norms."""

from pathlib import Path

import pandas as pd

from whysgd.report import figures, noise_figures
from whysgd.report.frame import read_histories
from whysgd.report.recorded import unpacked
from whysgd.report.script import logged
from whysgd.report.tables import setting_of
from whysgd.study.layout import NOISE_LOGS


def plot_noise(table: dict, view: str, noise: pd.DataFrame, runs: str, histories: str, outputs: list[str]) -> None:
    frame = pd.read_csv(runs)
    setting = setting_of(frame[frame.run.isin(noise.run)], device=False)
    if view == "noise_course":
        figure = noise_figures.plot_noise_course(table, noise, pd.read_csv(histories), setting)
    elif view == "layer_norms":
        figure = noise_figures.plot_layer_norms(table, noise, setting)
    else:
        figure = noise_figures.plot_noise_norms(table, noise, frame, setting)
    figures.save_figure(figure, outputs)


if __name__ == "__main__":
    with logged(snakemake.log[0]):
        inputs, view = snakemake.input, snakemake.wildcards.view
        if records := inputs.get("records"):
            noise = pd.concat([unpacked(Path(file), NOISE_LOGS[view]) for file in records])
        else:
            noise = read_histories(inputs.metrics, inputs.logs)
        plot_noise(snakemake.params.table, view, noise, inputs.runs, inputs.histories, snakemake.output)
