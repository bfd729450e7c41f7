"""Rule make_table: a published table with the measured numbers beside it."""

from whysgd.files import write_text
from whysgd.report import tables
from whysgd.report.frame import read_frame
from whysgd.report.script import logged
from whysgd.report.table import document, to_latex, to_markdown


def make_table(table: dict, paper: str, *, runs, measures=None, csv, md, tex, html) -> None:
    frame, measured = read_frame(runs), read_frame(measures) if measures else None
    lines = tables.make_table(table, paper, frame, measured)
    setting = tables.setting_of(frame[frame.run.isin(lines.row[lines.n > 0])], scaled=table["scaled"])
    origin = f"Published: {table['setting']}. Measured: {setting}."
    shown = tables.presented(lines, paper, table["title"], origin, table["finding"])
    write_text(csv, lines.to_csv(index=False, float_format="%.8f"))
    write_text(md, to_markdown(shown))
    write_text(tex, to_latex(shown))
    write_text(html, document(shown, table["title"]))


if __name__ == "__main__":
    with logged(snakemake.log[0]):
        make_table(snakemake.params.table, snakemake.wildcards.paper, **snakemake.input, **snakemake.output)
