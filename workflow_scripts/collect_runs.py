"""Rule collect_runs: all runs of a paper in one frame, all their histories in another."""

from whysgd.files import write_text
from whysgd.report.frame import read_histories, read_runs
from whysgd.report.script import logged

if __name__ == "__main__":
    with logged(snakemake.log[0]):
        inputs, outputs = snakemake.input, snakemake.output
        write_text(outputs.runs, read_runs(inputs.metrics, placed=True).to_csv(index=False))
        write_text(outputs.histories, read_histories(inputs.metrics, inputs.histories).to_csv(index=False))
