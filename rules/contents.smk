# What the index page shows, and under which labels Snakemake's report shows a file.
PAGE_TEMPLATES = [f"whysgd/report/templates/{name}" for name in ("index.html", "page.css", "page.js")]


def table_labels(wildcards):
    """Of a table."""
    return {"table": table_of(wildcards)["title"]}


def figure_labels(kind=None):
    """A function for those of a table's figure; without a kind, a path's `view` or `measure` is it."""

    def labels(wildcards):
        name = kind or wildcards.get("view") or wildcards.measure
        return {**table_labels(wildcards), "figure": name.replace("_", " ")}

    return labels


def picture_labels(kind):
    """A function for those of a paper's picture of descent on a loss with two weights."""
    return lambda wildcards: {"table": trajectories_of(wildcards)["title"], "figure": kind}


def page_measures():
    """What the page shows of the measures."""
    if not CONFIG["measures"]:
        return None
    names = ("table.csv", "tidy.csv", "reading.md", "figure")
    table, tidy, reading, figure = measure_outputs(*names)
    figures = [{"file": figure, "caption": CAPTIONS["correlations"]}]
    return {"csv": table, "tidy": tidy, "reading": reading, "caption": CAPTIONS["measures"], "figures": figures}


def page_contents():
    """What the page shows, by paper: its header and, for each table, where table and figures lie."""
    contents = []
    for paper in CONFIG["papers"]:
        loaded = load_paper(paper)
        tables = [
            {
                "title": table["title"],
                "setting": table["setting"],
                "finding": table["finding"],
                "csv": f"results/{SCALE}/tables/{paper}_{name}.csv",
                "figures": [
                    {"file": f"results/{SCALE}/figures/{figure}.png", "caption": CAPTIONS[kind]}
                    for kind, figure in [
                        *((kind, f"{paper}_{name}_{kind}") for kind in kinds_of(paper, name)),
                        *(("sheet", sheet) for sheet in sheets_of(paper, name)),
                    ]
                ],
            }
            for name, table in tables_at(CONFIG, paper).items()
        ]
        header = {key: loaded[key] for key in ("paper", "title", "venue", "arxiv")}
        titles = {name: table["title"] for name, table in loaded["tables"].items()}
        left_out = [{**part, "table": titles.get(part["table"], part["table"])} for part in loaded["out_of_scope"]]
        contents.append(
            {
                "header": {**header, "out_of_scope": left_out},
                "tables": tables,
                "picture": (loaded["trajectories"] or {}).get("title"),
                "figures": [
                    {"file": file, "caption": CAPTIONS[caption]}
                    for file, caption in zip(trajectory_files(paper, "png", "gif"), ("trajectories", "animation"))
                ],
                "claims": next(iter(claims_of(paper, "csv")), None),
            }
        )
    return contents
