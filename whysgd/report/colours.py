"""Which colour a row has in the figures of a paper; read by the workflow, so it imports no library."""

from collections.abc import Mapping

# Okabe and Ito's colours, told apart by colour-blind readers; the first is the baseline's.
PALETTE = ("#000000", "#D55E00", "#E69F00", "#56B4E9", "#0072B2", "#009E73", "#CC79A7", "#999999")


def run_colours(tables: Mapping[str, dict]) -> dict[str, dict[str, str]]:
    """Return a colour for each run of each table.

    What is compared is the rows, by their labels, or in a table whose columns span a gap the columns. One that an
    earlier table has keeps its colour. A new one gets that of its place, or else the first one that is free in its
    table; a table of more than there are colours repeats them. `tables` are all of a paper, laid out, in order.
    """
    known: dict[str, str] = {}
    colours = {}
    for name, table in tables.items():
        key = "method" if table["gap"] else "label"
        compared = list(dict.fromkeys(row[key] for row in table["rows"]))
        for place, one in enumerate(compared):
            own = [known[other] for other in compared if other in known]
            wanted = PALETTE[place % len(PALETTE)]
            known.setdefault(one, next((colour for colour in (wanted, *PALETTE) if colour not in own), wanted))
        colours[name] = {row["run"]: known[row[key]] for row in reversed(table["rows"])}
    return colours
