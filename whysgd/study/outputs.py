"""What the workflow makes of finished runs: which files, and what the page shows of them."""

from whysgd.results import paths
from whysgd.study.changes import settings_at_paper
from whysgd.study.figures import caption
from whysgd.study.papers import load_paper
from whysgd.study.workflow import Study


def figure_files(study: Study, paper: str, table: str) -> dict[str, str]:
    """Return the figures of a table, and those of its runs' stored copies, without suffix, each with its caption."""
    names = {"scale": study.scale, "paper": paper, "table": table}
    files = {paths.FIGURE.format(**names, figure=kind): caption(kind) for kind in study.figures(paper, table)}
    runs = [row["run"] for row in study.table(paper, table)["rows"] if row["planned"]]
    for spec in () if study.recorded else (study.runs[paper, run] for run in runs):  # Records have no images.
        if spec.store:
            file = paths.GRID_OF_COPIES.format(scale=study.scale, dataset=spec.dataset, store=spec.store.name)
            files[file] = caption("augmentation")
    return files


def trajectory_files(study: Study, paper: str, *suffixes: str) -> list[str]:
    """Return a paper's picture of descent on a loss with two weights, if it has one."""
    if load_paper(paper)["trajectories"] is None:
        return []
    return [paths.TRAJECTORIES.format(scale=study.scale, paper=paper) + suffix for suffix in suffixes]


def summary_files(study: Study, *names: str) -> list[str]:
    """Return what is made of all papers' measures together, if anything is measured."""
    folder = paths.SUMMARY.format(scale=study.scale)
    return [f"{folder}/{name}" for name in names] if study.config["measures"] else []


def outputs(study: Study, paper: str) -> list[str]:
    """Return everything that is made for a paper.

    Among it are the metrics of its runs and their frames: Snakemake makes a file that is missing again only if it is
    asked for.
    """
    names = {"scale": study.scale, "paper": paper}
    files = [] if study.recorded else study.batch_files(paths.METRICS, paper)
    files += [paths.FRAME.format(**names, frame=frame) for frame in ("runs", "histories")]
    files += trajectory_files(study, paper, ".csv", ".svg", ".png")
    for table in study.tables[paper]:
        files += [paths.TABLE.format(**names, table=table) + end for end in (".csv", ".md", ".tex", ".html")]
        files += [figure + end for figure in figure_files(study, paper, table) for end in (".svg", ".png")]
    files += [paths.CLAIMS.format(**names) + end for end in (".csv", ".md", ".html") if study.claims(paper)]
    return list(dict.fromkeys(files))


def page_files(study: Study) -> list[str]:
    """Return the files that the page is made of, beside the frames."""
    every = (file for paper in study.tables for file in outputs(study, paper))
    return [file for file in every if file.endswith((".csv", ".svg"))]


def page(study: Study) -> list[dict]:
    """Return what the page shows, by paper: what it is and, for each table, where table and figures lie."""
    contents = []
    for paper in study.config["papers"]:
        loaded = load_paper(paper)
        titles = {name: table["title"] for name, table in loaded["tables"].items()}
        left_out = [{**part, "table": titles.get(part["table"], part["table"])} for part in loaded["out_of_scope"]]
        contents.append({
            **{key: loaded[key] for key in ("paper", "title", "venue", "arxiv")},
            "out_of_scope": left_out,
            "at_paper": {run: settings_at_paper(study.config, paper, run) for own, run in study.runs if own == paper},
            "tables": [_shown(study, paper, name) for name in study.tables[paper]],
            "picture": (loaded["trajectories"] or {}).get("title"),
            "figures": dict.fromkeys(trajectory_files(study, paper, ".svg"), caption("trajectories")),
            "claims": paths.CLAIMS.format(scale=study.scale, paper=paper) + ".csv" if study.claims(paper) else None,
        })  # fmt: skip
    return contents


def _shown(study: Study, paper: str, name: str) -> dict:
    """A table on the page."""
    table = study.table(paper, name)
    return {
        **{key: table[key] for key in ("title", "setting", "scaled", "finding")},
        "csv": paths.TABLE.format(scale=study.scale, paper=paper, table=name) + ".csv",
        "figures": {f"{file}.svg": text for file, text in figure_files(study, paper, name).items()},
    }
