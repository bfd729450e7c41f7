"""What the workflow knows of figures without drawing any."""

from functools import cache

from whysgd.measures.catalog import LANDSCAPES
from whysgd.study.layout import GRID_FIGURES, NOISE_LOGS
from whysgd.study.validation import ROOT

__all__ = ["GRID_FIGURES", "LANDSCAPES", "NOISE_LOGS", "caption"]


@cache
def caption(kind: str) -> str:
    """Return the text under a kind of figure."""
    return (ROOT / "docs/captions" / f"{kind}.rst").read_text(encoding="utf-8").strip()
