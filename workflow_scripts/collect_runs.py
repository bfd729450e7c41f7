"""Rule collect_runs: all runs of a paper in one frame, all their histories in another."""

from whysgd.files import write_text
from whysgd.report.frame import read_histories, read_runs
from whysgd.report.script import logged


def collect_runs(metrics: list[str], histories: list[str], runs: str, courses: str) -> None:
    write_text(runs, read_runs(metrics, placed=True).to_csv(index=False))
    write_text(courses, read_histories(metrics, histories).to_csv(index=False))


if __name__ == "__main__":
    with logged(snakemake.log[0]):
        inputs, outputs = snakemake.input, snakemake.output
        collect_runs(inputs.metrics, inputs.histories, outputs.runs, outputs.histories)
