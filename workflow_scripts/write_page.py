"""Rule write_page: claims, tables, figures, measures and what is behind each number on one page without a network."""

from pathlib import Path

from whysgd.files import write_text
from whysgd.report.page import write_page
from whysgd.report.script import logged

if __name__ == "__main__":
    with logged(snakemake.log[0]):
        inputs, params, measures = snakemake.input, snakemake.params, None
        if inputs.measures:
            figures = {inputs.correlations[0]: params.captions["correlations"]}
            named = dict(zip(("wide", "tidy", "correlations"), inputs.measures, strict=True))
            measures = {**named, "caption": params.captions["measures"], "figures": figures}
        page = snakemake.output.page
        write_text(page, write_page(params.papers, inputs.runs, Path(page).parent, measures, inputs.histories))
