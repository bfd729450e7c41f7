"""Rule check_claims: a paper's claims and their verdicts."""

from whysgd.files import write_text
from whysgd.report.claims import claims_blocks, evaluate_claims
from whysgd.report.frame import read_frame
from whysgd.report.script import logged
from whysgd.report.table import document, to_markdown
from whysgd.report.tables import setting_of
from whysgd.study.claims import Claim


def check_claims(claims: list[Claim], paper: str, *, runs, histories, measures=None, csv, md, html) -> None:
    frame, measured = read_frame(runs), read_frame(measures) if measures else None
    verdicts = evaluate_claims(claims, paper, frame, read_frame(histories), measured)
    write_text(csv, verdicts.to_csv(index=False))
    blocks = claims_blocks(verdicts, setting_of(frame, measures=measured))
    write_text(md, to_markdown(blocks))
    write_text(html, document(blocks, f"Claims of {paper}"))


if __name__ == "__main__":
    with logged(snakemake.log[0]):
        check_claims(snakemake.params.claims, snakemake.wildcards.paper, **snakemake.input, **snakemake.output)
