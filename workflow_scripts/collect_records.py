"""Rule collect_records: a paper's runs, histories and measures in three frames, from records."""

from whysgd.files import write_text
from whysgd.report.record_frames import read_record_frames
from whysgd.report.script import logged


def collect_records(records: list[str], options: dict, runs: str, histories: str, measures: str) -> None:
    for frame, output in zip(read_record_frames(records, options), (runs, histories, measures), strict=True):
        write_text(output, frame.to_csv(index=False))


if __name__ == "__main__":
    with logged(snakemake.log[0]):
        collect_records(snakemake.input.records, snakemake.params.options, **snakemake.output)
