"""The runs and figures of a scale as one HTML page, and its tables for a paper.

The page needs no network and no kernel: pictures are inside it, the temperature panel moves. All
that comes from a run or a file is escaped: a name, a label or a result is text, never markup.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable
from numbers import Integral
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from distilkit.checkpoint import write_atomically
from distilkit.config import SHIPPED, Scale, home
from distilkit.panels.temperature import temperature_panel
from distilkit.plots.style import SAVE_DPI, SCREEN_DPI
from distilkit.run import Run, commit, environment
from distilkit.study import paper
from distilkit.study.arms import paired_difference, results_table
from distilkit.study.paper_comparison import (
    COUNTS_WITHIN,
    EXAMPLE,
    NOT_HERE,
    NOT_RUN,
    PARTLY,
    REPRODUCED,
    SCORES_WITHIN,
    as_text,
    beside_the_paper,
    tally,
)
from distilkit.study.reference_tables import load_reference_table
from distilkit.study.study import measured_split

_CAPTIONS = {
    "01_temperatures": "softmax(z / T) at six temperatures",
    "01_one_hot_and_soft": "A one-hot target and a soft one",
    "02_layer_map": "The student's layers and where they come from",
    "02_layer_maps": "All layer maps, as they are cut and after a training",
    "03_soft_targets": "One-hot and soft target at a masked word",
    "04_losses": "The three losses while the student trains",
    "05_glue": "Scores of the arms, task by task",
    "06_size_speed_accuracy": "Size, speed and score",
    "06_bert_base": "The same at the size of BERT, with random weights",
    "06_beside_the_paper": "What the student keeps, beside the published numbers",
    "06_where_it_forgets": "Where the student answers otherwise, and how sure it is",
    "07_study": "The study: arms and seeds, and what is shown to differ",
    "07_labels": "Distilled minus masked words alone, few labels and many; ours, tiny scale",
    "07_parts": "The study of the parts: all arms but those from random weights",
    "07_ablation": "What leaving a part out does, beside the published numbers",
    "07_temperature": "What the temperature does to what is kept, and to what targets say",
    "09_task_differences": "Student minus teacher, published and ours",
    "08_frontier": "Compressed further: score against size and latency",
    "08_frontier_minilm": "The same of all-MiniLM-L6-v2 on GLUE's SST-2, measured beforehand",
}
_MARKS = {REPRODUCED: "●", PARTLY: "◐", NOT_HERE: "○", NOT_RUN: "–"}
# For the page and for a notebook's cell alike, whose own style it has to outdo.
_PAPER_STYLE = """
.dk-paper { overflow-x: auto; }
.dk-paper.dk-paper table { display: table; table-layout: auto; width: 100%;
  border-collapse: collapse; font-size: 12px; }
.dk-paper.dk-paper th, .dk-paper.dk-paper td { text-align: left; vertical-align: top;
  padding: 3px 8px; white-space: normal; overflow-wrap: break-word;
  border-bottom: 1px solid #e4e4e4; }
.dk-paper td.number { min-width: 60px; }
.dk-paper td.verdict { min-width: 92px; }
.dk-paper td.reproduced, .dk-paper td.partly { font-weight: bold; }
.dk-paper .where { display: block; color: #666666; }
.dk-paper p, .dk-paper li { font-size: 13px; }
.dk-paper tr { break-inside: avoid; }
"""
_STYLE = """
body { max-width: 860px; margin: 24px auto; padding: 0 16px; color: #222222;
  font: 15px/1.5 "DejaVu Sans", Verdana, sans-serif; }
h1 { font-size: 26px; } h2 { font-size: 19px; margin-top: 36px; }
table { border-collapse: collapse; font-size: 13px; display: block; overflow-x: auto; }
th, td { padding: 3px 10px; text-align: right; border-bottom: 1px solid #e4e4e4; }
thead th { border-bottom: 1px solid #666666; }
tbody th, td.text, td:first-child, th:first-child { text-align: left; }
figure { margin: 20px 0; } figure img { max-width: 100%; height: auto; }
figcaption, .note { color: #666666; font-size: 13px; }
@media print { body { max-width: none; margin: 0; } }
"""
# pictures and scripts of the page itself, and nothing that would ask a network
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


_RULE = (
    f"{_MARKS[REPRODUCED]} reproduced: the same quantity at the same dimensions, teacher and "
    f"tasks, within {COUNTS_WITHIN:.0%} (scores: {SCORES_WITHIN:.0%}), or the published number "
    "lies in our 95 % interval, and no effect at all does not. "
    f"{_MARKS[PARTLY]} partly: the same direction with the whole interval, but with another "
    "teacher, text or tasks, or of another size. "
    f"{_MARKS[NOT_HERE]} not at this scale: measured, but it cannot be compared or does not show. "
    f"{_MARKS[NOT_RUN]} not run: no value of ours. Ours are means over seeds with 95 % t-intervals "
    "where there are any; the paper's scores are medians of five. Where nine tasks are looked at "
    "one by one, an interval may be clear of 0 by chance."
)


def write_report(scale: Scale) -> Path:
    """``figures/<scale>/report.html``, and each of its tables as ``report_*.csv`` and ``.tex``.

    Args:
        scale: whose runs and figures, as the notebooks left them.

    Returns:
        The page.

    Raises:
        FileNotFoundError: the notebooks have not been run at this scale.
    """
    folder = scale.figures
    if not (folder / "results.csv").is_file():
        raise FileNotFoundError(
            f"no results in {folder}: run the notebooks at the scale {scale.name} first "
            "(python -m distilkit figures)"
        )
    tables = report_tables(scale)
    for name, (_, table) in tables.items():
        write_atomically(folder / f"report_{name}.csv", table.to_csv().encode())
        shown = table.map(_number).reset_index()
        latex = shown.to_latex(escape=True, index=False, column_format="l" + "r" * table.shape[1])
        write_atomically(folder / f"report_{name}.tex", latex.encode())
    beside = beside_the_paper(scale)
    write_atomically(folder / "report_paper.csv", beside.to_csv(index=False).encode())
    write_atomically(folder / "report_paper.tex", _paper_latex(beside).encode())
    return write_atomically(folder / "report.html", _page(scale, tables, beside).encode())


def paper_table(beside: pd.DataFrame) -> str:
    """:func:`distilkit.study.paper_comparison.beside_the_paper`'s table as HTML, its rule and the
    slips.

    For ``IPython.display.HTML`` in a notebook, and for the page. All text in it is escaped.
    """
    head = "".join(
        f"<th>{name}</th>" for name in ("source", "claim", "published", "ours", "verdict", "why")
    )
    rows = "".join(_claim(*row) for row in as_text(beside).itertuples(index=False))
    slips = "".join(f"<li>{html.escape(slip)}</li>" for slip in paper.SLIPS)
    return (
        f'<div class="dk-paper"><style>{_PAPER_STYLE}</style>'
        f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
        f"<p>{html.escape(_RULE)}</p>"
        f"<p>Known slips in the published numbers:</p><ol>{slips}</ol></div>"
    )


def _claim(
    source: str, what: str, published: str, ours: str, verdict: str, why: str, where: str
) -> str:
    cells = [
        f"<td>{html.escape(source)}</td>",
        f"<td>{html.escape(what)}</td>",
        *(f'<td class="number">{html.escape(number) or "–"}</td>' for number in (published, ours)),
        f'<td class="verdict {html.escape(verdict.replace(" ", "-"))}">'
        f"{_MARKS.get(verdict, '')} {html.escape(verdict)}</td>",
        f'<td>{html.escape(why)}<span class="where">{html.escape(where)}</span></td>',
    ]
    return f"<tr>{''.join(cells)}</tr>"


def _paper_latex(beside: pd.DataFrame) -> str:
    """Without the reasons, which no column would hold; over several pages (longtable)."""
    shown = as_text(beside)[["source", "what", "published", "ours", "verdict"]]
    widths = "".join(rf"p{{{width}\linewidth}}" for width in (0.13, 0.35, 0.12, 0.16, 0.12))
    latex = shown.to_latex(escape=True, index=False, column_format=widths, longtable=True)
    return latex.replace("−", "$-$").replace("×", r"$\times$")


def report_tables(scale: Scale) -> dict[str, tuple[str, pd.DataFrame]]:
    """Name of the file -> (caption, table)."""
    results = pd.read_csv(scale.figures / "results.csv", index_col="arm")
    seeds = _joined(scale.seeds)
    drawn = f"medians over the seeds {seeds}" if len(scale.seeds) > 1 else f"seed {seeds}"
    tables = {
        "results": (
            f"Validation sets, {drawn}, in points; size in MB, latency in "
            "ms (batch 1), throughput in examples a second",
            _turned(results),
        )
    }
    runs = runs_of(scale)
    if len(runs):
        tables["runs"] = ("The scale's runs of pretraining and distillation", runs)
    for name, differences, what in (
        ("study", "differences", "The study"),
        ("parts", "parts_differences", "The study of the parts, on fewer tasks"),
    ):
        study, of, said = load_reference_table(scale, name)
        if of.name == scale.name and "distilled" in set(study.arm):
            tables[name] = (
                f"{what} ({said}): {measured_split(of)} sets, medians over seeds",
                _turned(results_table(study)),
            )
            others = [arm for arm in dict.fromkeys(study.arm) if arm != "distilled"]
            found = {arm: paired_difference(study, "distilled", arm) for arm in others}
            tables[differences] = (
                "Its paired differences, distilled minus the other: macro-score, 95 % interval",
                pd.DataFrame(found).T.rename_axis("arm"),
            )
    return tables


def _turned(table: pd.DataFrame) -> pd.DataFrame:
    """A row a task, a column an arm."""
    return table.T.rename_axis(index="arm", columns=None)


def runs_of(scale: Scale) -> pd.DataFrame:
    """A row for each finished pretraining or distillation whose name begins with the scale's."""
    rows = []
    for path in sorted((home() / "runs").glob(f"{scale.name}-*/result.json")):
        run = Run(path.parent)
        result, where = run.result(), run.environment()
        if result.get("kind") != "pretrain":
            continue
        training, teacher = run.config()["training"], run.config()["teacher"]
        rows.append(
            {
                "run": run.name,
                "seed": training["seed"],
                "steps": result["steps"],
                "tokens": result["tokens"],
                "minutes": result["seconds"] / 60,
                # a run without a teacher writes 0 for what it did not measure
                "held-out T²·KL": result.get("validation_soft_target") if teacher else None,
                "held-out MLM": result.get("validation_mlm"),
                "commit": where["commit"],
                "started": where["started"][:16].replace("T", " "),
                "device": where["device"],
            }
        )
    return pd.DataFrame(rows).set_index("run") if rows else pd.DataFrame()


def _page(scale: Scale, tables: dict[str, tuple[str, pd.DataFrame]], beside: pd.DataFrame) -> str:
    panel = temperature_panel(list(EXAMPLE.values()), list(EXAMPLE)).to_html()
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            f"<title>distilkit report: {html.escape(scale.name)}</title>",
            f"<style>{_STYLE}</style></head><body>",
            f"<h1>Distillation at the scale “{html.escape(scale.name)}”</h1>",
            f"<p>{html.escape(scale.about)}.</p>",
            "<h2>Results</h2>",
            *(_table(caption, table) for caption, table in tables.values()),
            "<h2>The paper beside us</h2>",
            f"<p>{html.escape(paper.PAPER)}, and the article: {html.escape(tally(beside))}.</p>",
            paper_table(beside),
            "<h2>Figures</h2>",
            *(_figure(path) for path in sorted(scale.figures.glob("*.png"))),
            "<h2>Temperature</h2>",
            "<p>softmax(z / T), Hinton et al. 2015, equation 1. Move the slider.</p>",
            panel,
            "<h2>Where this comes from</h2>",
            _definitions(_provenance(scale)),
            "</body></html>\n",
        ]
    )


def _table(caption: str, table: pd.DataFrame) -> str:
    shown = table.map(_number).reset_index().to_html(border=0, escape=True, index=False)
    return f"<figure>{shown}<figcaption>{html.escape(caption)}.</figcaption></figure>"


def _number(value: Any) -> str:
    if isinstance(value, str):
        return value
    if value is None or pd.isna(value):
        return "–"
    whole = isinstance(value, Integral) or (float(value).is_integer() and abs(value) >= 1000)
    if whole:
        return f"{int(value):,}"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def _figure(path: Path) -> str:
    caption = html.escape(_CAPTIONS.get(path.stem, path.stem.replace("_", " ")))
    data = base64.b64encode(path.read_bytes()).decode()
    with Image.open(path) as image:
        width = round(image.width * SCREEN_DPI / SAVE_DPI)  # as large as a notebook shows it
    return (
        f'<figure><img alt="{caption}" width="{width}" src="data:image/png;base64,{data}">'
        f"<figcaption>{caption}.</figcaption></figure>"
    )


def _provenance(scale: Scale) -> dict[str, str]:
    here = environment()
    every = [Run(p.parent) for p in (home() / "runs").glob(f"{scale.name}-*/result.json")]
    commits = sorted({run.environment()["commit"] for run in every})
    hours = sum(run.result()["seconds"] for run in every) / 3600
    return {
        "report made": f"{here['started']}, commit {commit()}",
        "runs": f"{len(every)}, {hours:.2f} hours of training, commits {', '.join(commits) or '–'}",
        "seeds": f"distillation {scale.distillation.seed}, fine-tuning {_joined(scale.seeds)}",
        "teacher": _short(scale.teacher),
        "text": _short(scale.text),
        "tasks": _joined(scale.tasks),
        "versions": ", ".join(
            f"{name} {here[name]}" for name in ("python", "torch", "transformers", "accelerate")
        ),
        "machine": f"{here['platform']}, {here['cpu_count']} CPUs, {here['device']}",
    }


def _short(source: str) -> str:
    """What the kit brings by its name, not by where this checkout lies."""
    inside = Path(source).is_relative_to(SHIPPED)
    return f"shipped with the kit ({Path(source).name})" if inside else source


def _joined(values: Iterable[Any]) -> str:
    return ", ".join(str(value) for value in values)


def _definitions(entries: dict[str, str]) -> str:
    rows = "".join(
        f'<tr><th>{html.escape(key)}</th><td class="text">{html.escape(str(value))}</td></tr>'
        for key, value in entries.items()
    )
    return f"<table><tbody>{rows}</tbody></table>"
