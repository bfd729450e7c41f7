"""Which colour a method has in the figures of a paper; read by the workflow, so it imports no library."""

from collections.abc import Mapping

# Okabe and Ito's colours, told apart by colour-blind readers.
PALETTE = ("#000000", "#999999", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7")


def method_colours(tables: Mapping[str, dict]) -> dict[str, dict[str, str]]:
    """Return a colour for each method of each table.

    A method that an earlier table has keeps its colour. A new one gets the first colour that no method has yet, or else
    the first one that is free in its table; a table of more methods than colours repeats them.

    Args:
        tables: of a paper, laid out, all of them in order.
    """
    known: dict[str, str] = {}
    colours = {}
    for name, table in tables.items():
        methods = dict.fromkeys(row["method"] for row in table["rows"])
        for method in methods:
            own = [known[other] for other in methods if other in known]
            free = [colour for colour in PALETTE if colour not in own]
            free.sort(key=lambda colour: colour in known.values())  # stable: what no method has yet comes first
            known.setdefault(method, free[0] if free else PALETTE[len(known) % len(PALETTE)])
        colours[name] = {method: known[method] for method in methods}
    return colours
