"""Rule check_claims: a paper's claims and their verdicts."""

import pandas as pd

from whysgd.files import write_text
from whysgd.reporting.claims import claims_to_markdown, evaluate_claims
from whysgd.reporting.script import logged
from whysgd.reporting.tables import setting_of


def check_claims(claims: list[dict], paper: str, runs: str, histories: str, csv: str, md: str) -> None:
    frame = pd.read_csv(runs)
    verdicts = evaluate_claims(claims, paper, frame, pd.read_csv(histories))
    write_text(csv, verdicts.to_csv(index=False))
    write_text(md, claims_to_markdown(verdicts, setting_of(frame)))


if __name__ == "__main__":
    with logged(snakemake.log[0]):
        inputs = snakemake.input
        check_claims(
            snakemake.params.claims, snakemake.wildcards.paper, inputs.runs, inputs.histories, **snakemake.output
        )
