"""Rule plot_trajectories: methods that descend a loss with two weights, as numbers, a picture and an animation."""

import pandas as pd

from whysgd.files import write_text
from whysgd.report import figures, trajectories
from whysgd.report.script import logged
from whysgd.training import two_weights


def plot_trajectories(settings: dict, csv: str, svg: str, png: str, gif: str) -> None:
    frame = pd.DataFrame(two_weights.trajectories(settings))
    write_text(csv, frame.to_csv(index=False, float_format="%.8g"))
    figures.save_figure(trajectories.plot_trajectories(settings, frame), [svg, png])
    trajectories.animate_trajectories(settings, frame, gif)


if __name__ == "__main__":
    with logged(snakemake.log[0]):
        plot_trajectories(snakemake.params.settings, **snakemake.output)
