"""Rule plot_correlations: how each measure ranks runs, beside test accuracy and the generalization gap."""

import pandas as pd

from whysgd.files import write_text
from whysgd.report import correlation_figure
from whysgd.report.correlations import correlate
from whysgd.report.script import logged
from whysgd.report.style import save_figure
from whysgd.report.tables import setting_of


def plot_correlations(lines: str, runs: list[str], csv: str, outputs: list[str]) -> None:
    correlations = correlate(pd.read_csv(lines))
    write_text(csv, correlations.to_csv(index=False))
    setting = setting_of(pd.concat(map(pd.read_csv, runs)), device=False)
    save_figure(correlation_figure.plot_correlations(correlations, setting), *outputs)


if __name__ == "__main__":
    with logged(snakemake.log[0]):
        inputs, outputs = snakemake.input, snakemake.output
        plot_correlations(inputs.wide, inputs.runs, outputs.csv, [outputs.svg, outputs.png])
