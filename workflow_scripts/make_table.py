"""Rule make_table: a published table with the measured numbers beside it."""

from whysgd.warm import enter_script

enter_script()

import pandas as pd

from whysgd.files import write_text
from whysgd.reporting import tables
from whysgd.reporting.script import logged


def make_table(table: dict, paper: str, runs: str, csv: str, md: str, tex: str) -> None:
    frame = pd.read_csv(runs)
    lines = tables.make_table(table, paper, frame)
    setting = tables.setting_of(frame[frame.run.isin(lines.row)])
    write_text(csv, lines.to_csv(index=False, float_format="%.8f"))
    write_text(md, tables.to_markdown(lines, table["title"], table["setting"], setting))
    write_text(tex, tables.to_latex(lines, table["title"], table["setting"], setting))


if __name__ == "__main__":
    with logged(snakemake.log[0]):
        make_table(snakemake.params.table, snakemake.wildcards.paper, snakemake.input.runs, **snakemake.output)
