"""The runs and figures of a scale as one HTML page, and its tables for a paper.

The page needs no network and no kernel: pictures are inside it, the temperature panel moves. All
that comes from a run or a file is escaped: a name, a label or a result is text, never markup.
"""

import base64
from numbers import Integral
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from PIL import Image

from distilkit.checkpoint import write_atomically
from distilkit.config import RESULTS, SHIPPED, Scale, home
from distilkit.data.tasks import TASKS
from distilkit.panels.temperature import temperature_panel
from distilkit.plots.style import SAVE_DPI, SCREEN_DPI
from distilkit.run import Run, environment
from distilkit.study import paper, verdicts
from distilkit.study.arms import paired_difference, results_table
from distilkit.study.conditions import UNSOLVED
from distilkit.study.factorial import DESIGN, factorial_effects
from distilkit.study.label_efficiency import teacher_gains
from distilkit.study.paper_comparison import compare_with_paper, load_reference_table
from distilkit.study.study import measured_split

EXAMPLE = {"dog": 6.0, "wolf": 4.5, "fox": 3.0, "cat": 2.0, "car": -2.0}  # logits of notebook 1
_MARKS = dict(zip(verdicts.VERDICTS, "●◐○–", strict=True))
_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    keep_trailing_newline=True,
)


def write_report(scale: Scale) -> Path:
    """Write ``figures/<scale>/report.html``, and each table as ``report_*.csv`` and ``.tex``."""
    folder = scale.figures
    if not (folder / "results.csv").is_file():
        command = f"python -m distilkit figures --scale {scale.name}"
        raise FileNotFoundError(f"no results in {folder}: run the notebooks first ({command})")
    tables = report_tables(scale)
    for name, (_, table) in tables.items():
        write_atomically(folder / f"report_{name}.csv", table.to_csv().encode())
        latex = _latex(_shown(table), column_format="l" + "r" * table.shape[1])
        write_atomically(folder / f"report_{name}.tex", latex.encode())
    comparison = compare_with_paper(scale)
    write_atomically(folder / "report_paper.csv", comparison.to_csv(index=False).encode())
    shown = verdicts.as_text(comparison)[["source", "what", "published", "measured", "verdict"]]
    widths = "".join(rf"p{{{width}\linewidth}}" for width in (0.13, 0.35, 0.12, 0.16, 0.12))
    latex = _latex(shown, column_format=widths, longtable=True)  # over several pages
    write_atomically(folder / "report_paper.tex", latex.encode())
    panel = temperature_panel(list(EXAMPLE.values()), list(EXAMPLE))
    as_html = {"border": 0, "escape": True, "index": False}
    page = _TEMPLATES.get_template("page.html.j2").render(
        scale=scale,
        tables=[(caption, _shown(table).to_html(**as_html)) for caption, table in tables.values()],
        source=paper.PAPER,
        tally=verdicts.tally(comparison),
        paper_table=paper_table(comparison),
        figures=[_figure(path) for path in sorted(folder.glob("*.png"))],
        panel=panel.to_html(),
        provenance=_provenance(scale),
    )
    return write_atomically(folder / "report.html", page.encode())


def paper_table(comparison: pd.DataFrame) -> str:
    """Render the comparison with the paper, its rule and the known slips as escaped HTML."""
    return _TEMPLATES.get_template("paper_table.html.j2").render(
        rows=verdicts.as_text(comparison).to_dict("records"),
        marks=_MARKS,
        counts_within=f"{verdicts.COUNTS_WITHIN:.0%}",
        scores_within=f"{verdicts.SCORES_WITHIN:.0%}",
        slips=paper.SLIPS,
    )


def _latex(table: pd.DataFrame, **how: Any) -> str:
    """Typeset a table; pdflatex knows neither of the two signs."""
    latex = table.to_latex(escape=True, index=False, **how)
    return latex.replace("−", "$-$").replace("×", r"$\times$")


def report_tables(scale: Scale) -> dict[str, tuple[str, pd.DataFrame]]:
    """Collect the tables: name of the file -> (caption, table)."""
    results = pd.read_csv(scale.figures / "results.csv", index_col="arm")
    seeds = ", ".join(map(str, scale.seeds))
    drawn = f"medians over the seeds {seeds}" if len(scale.seeds) > 1 else f"seed {seeds}"
    units = "in points; size in MB, latency in ms (batch 1), throughput in examples a second"
    tables = {"results": (f"Validation sets, {drawn}, {units}", _tasks_by_arms(results))}
    runs = runs_of(scale)
    if len(runs):
        tables["runs"] = ("The scale's runs of pretraining and distillation", runs)
    for name, differences, what in (
        ("study", "differences", "The study"),
        ("parts", "parts_differences", "The study of the parts, on fewer tasks"),
    ):
        study, of, description = load_reference_table(scale, name)
        if of.name == scale.name and "distilled" in set(study.arm):
            caption = f"{what} ({description}): {measured_split(of)} sets, medians over seeds"
            tables[name] = (caption, _tasks_by_arms(results_table(study)))
            others = [arm for arm in dict.fromkeys(study.arm) if arm != "distilled"]
            paired = {arm: paired_difference(study, "distilled", arm) for arm in others}
            caption = (
                "Its paired differences, distilled minus the other: macro-score of all tasks, "
                "95 % interval"
            )
            table = pd.DataFrame(paired).T.astype({"seeds": int}).rename_axis("arm")
            tables[differences] = (caption, table)
            if set(DESIGN) <= set(study.arm):
                effects = factorial_effects(study)
                effects.index = effects.pop("effect") + ": " + effects.pop("start")
                caption = (
                    "Effects of copied weights and of each loss: macro-score without "
                    f"{', '.join(UNSOLVED)}, points, 95 % interval"
                )
                tables["effects"] = (caption, effects.rename_axis("effect"))
    gains = teacher_gains(pd.read_csv(RESULTS / "labels.csv"))
    gains["task"] = [f"the kit's {TASKS[t].title}" if t in TASKS else t for t in gains["task"]]
    caption = (
        "Gain from a teacher with few labels (data/results/labels.csv, measured beforehand): soft "
        "targets on all texts minus labels alone, points of test score, 95 % interval"
    )
    tables["labels"] = (caption, gains.set_index("task"))
    return tables


def _tasks_by_arms(table: pd.DataFrame) -> pd.DataFrame:
    """Turn the table: a row a task, a column an arm."""
    return table.T.rename_axis(index="arm", columns=None)


def runs_of(scale: Scale) -> pd.DataFrame:
    """Make a row for each finished pretraining or distillation of the scale."""
    rows = []
    for run in _finished_runs(scale):
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


def _finished_runs(scale: Scale) -> list[Run]:
    results = sorted((home() / "runs").glob(f"{scale.name}-*/result.json"))
    return [Run(path.parent) for path in results]


def _shown(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with its index as a column and its numbers as text."""
    return table.map(_number).reset_index()


def _number(value: Any) -> str:
    if isinstance(value, str):
        return value
    if value is None or pd.isna(value):
        return "–"
    if isinstance(value, Integral) or (float(value).is_integer() and abs(value) >= 1000):
        return f"{int(value):,}"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def _figure(path: Path) -> dict[str, Any]:
    with Image.open(path) as image:
        width = round(image.width * SCREEN_DPI / SAVE_DPI)  # as large as a notebook shows it
    data = base64.b64encode(path.read_bytes()).decode()
    return {"name": path.stem, "width": width, "data": data}


def _provenance(scale: Scale) -> dict[str, str]:
    here, runs = environment(), _finished_runs(scale)
    seeds, tasks = (", ".join(map(str, each)) for each in (scale.seeds, scale.tasks))
    commits = sorted({run.environment()["commit"] for run in runs})
    hours = sum(run.result()["seconds"] for run in runs) / 3600
    packages = ("python", "torch", "transformers", "accelerate")
    return {
        "report made": f"{here['started']}, commit {here['commit']}",
        "runs": f"{len(runs)}, {hours:.2f} hours of training, commits {', '.join(commits) or '–'}",
        "seeds": f"distillation {scale.distillation.seed}, fine-tuning {seeds}",
        "teacher": _short(scale.teacher),
        "text": _short(scale.text),
        "tasks": tasks,
        "versions": ", ".join(f"{name} {here[name]}" for name in packages),
        "machine": f"{here['platform']}, {here['cpu_count']} CPUs, {here['device']}",
    }


def _short(source: str) -> str:
    """Name the kit's own data without the path of this checkout."""
    inside = Path(source).is_relative_to(SHIPPED)
    return f"shipped with the kit ({Path(source).name})" if inside else source
