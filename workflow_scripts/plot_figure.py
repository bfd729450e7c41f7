"""Rule plot_figure: a figure of a table."""

from whysgd.report.draw import draw_figure, read_frames
from whysgd.report.script import logged
from whysgd.report.style import save_figure

if __name__ == "__main__":
    with logged(snakemake.log[0]):
        name, params = snakemake.wildcards.figure, snakemake.params
        frames = read_frames(name, dict(snakemake.input.items()))
        save_figure(draw_figure(name, {**params.table, "colours": params.colours}, frames), *snakemake.output)
