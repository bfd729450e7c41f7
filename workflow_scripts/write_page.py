"""Rule write_page: claims, tables, figures, measures and what is behind each number on one page without a network."""

from pathlib import Path

from whysgd.files import write_text
from whysgd.report import page
from whysgd.report.script import logged


def write_page(
    papers: list[dict], frames: list[str], output: str, measures: dict | None = None, metrics=(), histories=()
) -> None:
    write_text(output, page.write_page(papers, frames, Path(output).parent, measures, metrics, histories))


if __name__ == "__main__":
    with logged(snakemake.log[0]):
        params, inputs = snakemake.params, snakemake.input
        measures = params.get("measures")
        write_page(params.papers, inputs.frames, snakemake.output.page, measures, inputs.metrics, inputs.histories)
