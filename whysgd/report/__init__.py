"""Reporting: from finished runs to tables, figures, claims and the page."""
