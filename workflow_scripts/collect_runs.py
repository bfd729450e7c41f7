"""Rule collect_runs: all runs of a paper in one frame, all their histories in another."""

from whysgd.files import write_text
from whysgd.reporting.frame import read_histories, read_runs
from whysgd.reporting.script import logged


def collect_runs(metrics: list[str], runs: str, histories: str) -> None:
    write_text(runs, read_runs(metrics).to_csv(index=False))
    write_text(histories, read_histories(metrics).to_csv(index=False))


if __name__ == "__main__":
    with logged(snakemake.log[0]):
        collect_runs(snakemake.input.metrics, snakemake.output.runs, snakemake.output.histories)
