"""Rule plot_trajectories: methods that descend a loss with two weights, as numbers and a picture."""

import pandas as pd

from whysgd.files import write_text
from whysgd.report.script import logged
from whysgd.report.style import save_figure
from whysgd.report.trajectories import plot_trajectories
from whysgd.training import two_weights

if __name__ == "__main__":
    with logged(snakemake.log[0]):
        settings, outputs = snakemake.params.settings, snakemake.output
        frame = pd.DataFrame(two_weights.trajectories(settings))
        write_text(outputs.csv, frame.to_csv(index=False, float_format="%.8g"))
        save_figure(plot_trajectories(settings, frame), outputs.svg, outputs.png)
