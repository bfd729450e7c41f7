"""Rule write_page: claims, tables and figures on one page that opens without a network."""

import pandas as pd

from whysgd.files import write_text
from whysgd.reporting import page, tables
from whysgd.reporting.script import logged


def write_page(papers: list[dict], frames: list[str], output: str) -> None:
    runs = pd.concat([pd.read_csv(frame) for frame in frames])
    contents = [
        {
            "paper": paper["header"],
            "claims": pd.read_csv(paper["claims"]) if paper["claims"] else None,
            "tables": [{**table, "table": pd.read_csv(table["csv"])} for table in paper["tables"]],
        }
        for paper in papers
    ]
    title = "whysgd: why does SGD generalize?"
    write_text(output, page.write_page(title, tables.setting_of(runs), contents))


if __name__ == "__main__":
    with logged(snakemake.log[0]):
        write_page(snakemake.params.papers, snakemake.input.frames, snakemake.output.page)
