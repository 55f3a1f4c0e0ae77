"""Figures: data in, a matplotlib figure out.

Each figure raises ValueError for an empty table, a missing column, a doubled row, or values that
are not finite or out of range. Widths are in inches, scores in points.
"""
