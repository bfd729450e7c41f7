"""Rule collect_measures: what was measured of all runs of a paper, in one frame."""

from whysgd.files import write_text
from whysgd.report.measures import read_measures
from whysgd.report.script import logged

if __name__ == "__main__":
    with logged(snakemake.log[0]):
        write_text(snakemake.output.csv, read_measures(snakemake.input.measures).to_csv(index=False))
