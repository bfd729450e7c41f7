"""Rule write_page: claims, tables, figures and measures on one page that opens without a network."""

from whysgd.warm import enter_script

enter_script()

from pathlib import Path

import pandas as pd

from whysgd.files import write_text
from whysgd.reporting import page, tables
from whysgd.reporting.script import logged


def write_page(papers: list[dict], frames: list[str], output: str, measures: dict | None = None) -> None:
    runs = pd.concat([pd.read_csv(frame) for frame in frames])
    contents = [
        {
            "paper": paper["header"],
            "claims": pd.read_csv(paper["claims"]) if paper["claims"] else None,
            **{key: paper[key] for key in ("picture", "figures")},
            "tables": [{**table, "table": pd.read_csv(table["csv"])} for table in paper["tables"]],
        }
        for paper in papers
    ]
    if measures:
        # What a table has as text is left as it is.
        table = pd.read_csv(measures["csv"], dtype=str, keep_default_na=False)
        reading = Path(measures["reading"]).read_text(encoding="utf-8") if measures["reading"] else None
        measures = {**measures, "table": table, "reading": reading}
    title = "whysgd: why does SGD generalize?"
    write_text(output, page.write_page(title, tables.setting_of(runs), contents, measures or None))


if __name__ == "__main__":
    with logged(snakemake.log[0]):
        params = snakemake.params
        write_page(params.papers, snakemake.input.frames, snakemake.output.page, params.get("measures"))
