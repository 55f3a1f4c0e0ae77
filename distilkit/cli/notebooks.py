"""Verbs of the notebooks: run them, copy them, write their report."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from distilkit.cli.options import add_scale, chosen_scale
from distilkit.config import home


def figures(options: Namespace) -> None:
    """Run the numbered notebooks headless; write figures and tables to figures/<scale>/."""
    from distilkit.cli.run_notebooks import NotebookFailed, run_notebooks

    chosen = chosen_scale(options)
    print(f"scale {chosen.name}: {chosen.about}")
    try:
        run_notebooks(out=home() / "runs" / "notebooks" / chosen.name, scale=chosen.name)
    except NotebookFailed as failure:
        raise SystemExit(f"\n{failure}") from None
    import pandas as pd

    from distilkit.study.conditions import ARMS

    results = pd.read_csv(chosen.figures / "results.csv", index_col="arm")
    seeds = len(chosen.seeds)
    averaged = f"medians of {seeds} seeds" if seeds > 1 else "one seed"
    print(f"\nScale {chosen.name}. GLUE validation scores in points, {averaged}.\n")
    print(results.T.round(1).to_string(na_rep="–"))
    print()
    for arm in results.index:
        print(f"{arm:16} {ARMS[arm].about if arm in ARMS else ''}")
    print(f"\nFigures and tables: {chosen.figures}")


def report(options: Namespace) -> None:
    """Write the scale's runs and figures as one HTML page, its tables as CSV and LaTeX."""
    from distilkit.report.page import write_report

    print(write_report(chosen_scale(options)))


def notebooks(options: Namespace) -> None:
    """Copy the numbered notebooks into a folder, to be opened and changed there."""
    from distilkit.cli.run_notebooks import copy_notebooks

    for copy in copy_notebooks(options.folder):
        print(copy)


def _notebooks_options(parser: ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="made if it is missing")


VERBS = {
    "figures": (figures, add_scale),
    "report": (report, add_scale),
    "notebooks": (notebooks, _notebooks_options),
}
