"""Rule collect_measures: what was measured of all runs of a paper, in one frame."""

from whysgd.files import write_text
from whysgd.report.measures import read_measures
from whysgd.report.script import logged


def collect_measures(measures: list[str], output: str) -> None:
    write_text(output, read_measures(measures).to_csv(index=False))


if __name__ == "__main__":
    with logged(snakemake.log[0]):
        collect_measures(snakemake.input.measures, snakemake.output.csv)
