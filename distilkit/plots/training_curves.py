"""The terms of the loss over training."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from distilkit.plots import parts, style

LOSS_TERMS = {"soft_target": "Soft targets", "mlm": "Masked words (MLM)", "cosine": "Cosine"}
_SMOOTHED_FROM = 20  # logged values
_VALIDATION = {"label": "validation", "linestyle": "", "clip_on": False, "zorder": 3}
_VALIDATION |= {"marker": "D", "markersize": 4.5, "color": style.VERMILLION}
_VALIDATION |= {"markeredgecolor": "white", "markeredgewidth": 0.6}


@style.figure_style()
def plot_losses(metrics: pd.DataFrame, validation: pd.DataFrame | None = None) -> Figure:
    """Plot the terms of the loss over training, a panel each with its own axis, 6.9 in wide.

    Thin: each logged value. Thick, from 20 logged values on: a centred running mean. Diamonds:
    validation. Both tables are those of :meth:`distilkit.run.Run.metrics`. A term that is missing,
    or 0 throughout since its weight is, gets no panel.
    """
    parts.check_table("metrics", metrics, ["step"])
    terms = [t for t in LOSS_TERMS if t in metrics.columns and metrics[t].fillna(0).any()]
    if not terms:
        raise ValueError(f"metrics has none of {list(LOSS_TERMS)}; it has {list(metrics.columns)}")
    if validation is not None:
        parts.check_table("validation", validation, ["step"])

    figure = style.new_figure(style.FULL_IN, 2.25)
    panels = figure.subplots(1, len(terms), squeeze=False)[0]
    for axes, term in zip(panels, terms, strict=True):
        _training_curve(axes, metrics["step"], metrics[term])
        if validation is not None and term in validation and validation[term].notna().any():
            axes.plot(validation["step"], validation[term], **_VALIDATION)
        axes.set_title(LOSS_TERMS[term])
        axes.set_xlabel("optimizer step")
        axes.locator_params(axis="x", nbins=4, integer=True)
        axes.locator_params(axis="y", nbins=5)
        axes.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}")
        parts.value_grid(axes)
    panels[0].set_ylabel("loss (unweighted)")
    handles = {line.get_label(): line for axes in panels for line in axes.lines}
    parts.legend_above(figure, list(handles.values()))
    return style.freeze_layout(figure)


HELD_OUT_SCORES = {
    "soft_target": "T²·KL to the teacher",
    "mlm": "MLM loss",
    "masked_accuracy": "masked words found, %",
}

_LOSS_LOOKS = ((style.BLUE, "o"), (style.ORANGE, "s"), (style.GREEN, "D"))
_START_LINES = ("-", (0, (4, 2)), ":")


@style.figure_style()
def plot_starts(curves: Mapping[tuple[str, str], pd.DataFrame]) -> Figure:
    """Plot scores on held-out text over training, a panel each, 6.9 in wide.

    `curves` maps (what the student starts from, what trains it) to rows of a run's validation, with
    `step` and :data:`HELD_OUT_SCORES`. Starts differ in their line, losses in colour and marker.
    """
    starts, losses = (list(dict.fromkeys(names)) for names in zip(*curves, strict=True))
    looks = {loss: _LOSS_LOOKS[i] for i, loss in enumerate(losses)}
    lines = {start: _START_LINES[i] for i, start in enumerate(starts)}
    figure = style.new_figure(style.FULL_IN, 2.5)
    panels = figure.subplots(1, len(HELD_OUT_SCORES))
    for axes, (score, title) in zip(panels, HELD_OUT_SCORES.items(), strict=True):
        for (start, loss), rows in curves.items():
            parts.check_table(f"curves[{start!r}, {loss!r}]", rows, ["step", *HELD_OUT_SCORES])
            colour, marker = looks[loss]
            values = rows[score] * (100 if score == "masked_accuracy" else 1)
            axes.plot(rows["step"], values, marker, color=colour, ls=lines[start], markersize=3.5)
        axes.set_title(title, fontsize=style.TEXT_PT)
        axes.set_xlabel("optimizer step")
        axes.locator_params(axis="x", nbins=5, integer=True)
        axes.set_ylim(bottom=0 if score != "mlm" else None)
        parts.value_grid(axes)
    marks = [
        parts.mark(f"{start}, {loss}", looks[loss][0], looks[loss][1], linestyle=lines[start])
        for start, loss in curves
    ]
    parts.legend_above(figure, marks, handlelength=3.6)
    return style.freeze_layout(figure)


def _training_curve(axes: Axes, steps: pd.Series, values: pd.Series) -> None:
    """Draw the logged values and, if there are enough, their running mean over an odd window."""
    smooth = len(values) >= _SMOOTHED_FROM
    width_pt, marker = (0.6, "") if smooth else (1.2, "o")
    look = {"color": style.SKY, "linewidth": width_pt, "marker": marker, "markersize": 3}
    axes.plot(steps, values, label="each logged step", **look)
    if smooth:
        window = max(3, len(values) // 20 // 2 * 2 + 1)
        mean = values.rolling(window, center=True, min_periods=window // 2 + 1).mean()
        axes.plot(steps, mean, color=style.BLUE, label=f"running mean of {window}")
