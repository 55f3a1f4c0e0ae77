"""Figures: data in, a matplotlib figure out.

Each figure raises ValueError for an empty table or a missing column. Widths are in inches, scores
in points.
"""
