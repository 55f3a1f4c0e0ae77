def plot_size_speed_accuracy(table: pd.DataFrame) -> Figure:
    """Size, latency and, where there are scores, accuracy against latency. 6.9 in wide.

    Each bar carries its value and, in brackets, its ratio to the first row's. The whisker of the
    latency runs from the median (p50) to p95. In the third panel the area of a bubble is the
    model's size and its whisker runs from `score_low` to `score_high`.

    Args:
        table: one row a model, columns `model`, `parameters`, `size_mb`, `latency_ms_p50`,
            `latency_ms_p95`, `throughput_per_s`, all above 0, and, if known, `score`, `score_low`,
            `score_high` (points). NaN in a score leaves that model out of the third panel; without
            any score that panel is left out.

    Raises:
        ValueError: for an empty table, missing columns, doubled models, or values not above 0.
    """
    measures = ["parameters", "size_mb", "latency_ms_p50", "latency_ms_p95", "throughput_per_s"]
    table = check_table("table", table, ["model", *measures]).reset_index(drop=True)
    for column in measures:
        if (check_vector(f"table['{column}']", table[column]) <= 0).any():
            raise ValueError(f"table['{column}'] must be above 0 in every row")
    if table["model"].duplicated().any():
        raise ValueError(f"table has the same model twice: {list(table['model'])}")
    table = table.reindex(columns=["model", *measures, "score", "score_low", "score_high"])
    with_scores = table["score"].notna().any()
    rows = np.arange(len(table))

    with figure_style():
        ratios = (1, 1.15, 1.5) if with_scores else (1, 1.15)
        figure = new_figure(FULL_IN, max(0.46 * len(table) + 0.75, 2.1 if with_scores else 0))
        panels = figure.subplots(1, len(ratios), width_ratios=ratios)
        size, speed = panels[:2]
        names = [
            f"{wrap(model, 88, 2)}\n{_count(parameters)} parameters"
            for model, parameters in zip(table["model"], table["parameters"], strict=True)
        ]
        for axes, column, unit in ((size, "size_mb", "MB"), (speed, "latency_ms_p50", "ms")):
            values = table[column]
            colours = [SERIES_COLOURS[i % len(SERIES_COLOURS)] for i in rows]
            hatches = [SERIES_HATCHES[i % len(SERIES_HATCHES)] for i in rows]
            axes.barh(
                rows,
                values,
                height=0.3,
                color=colours,
                hatch=hatches,
                edgecolor="white",
                linewidth=0.6,
            )
            for row, value in zip(rows, values, strict=True):
                axes.annotate(
                    f"{number(value)} {unit} ({value / values[0]:.2f}×)",
                    (0, row - 0.19),
                    (1, 0),
                    textcoords="offset points",
                    va="bottom",
                )
            axes.set_ylim(len(rows) - 0.6, -0.62)
            axes.set_yticks(rows, names if axes is size else [""] * len(rows), linespacing=1.15)
            axes.tick_params(axis="y", length=0)
            axes.locator_params(axis="x", nbins=4)
        for row in rows:
            p50, p95 = table.loc[row, ["latency_ms_p50", "latency_ms_p95"]]
            speed.plot([p50, p95], [row, row], color=INK, linewidth=0.9, marker="|", markersize=4)
        size.set(xlim=(0, table["size_mb"].max() * 1.04), title="Size", xlabel="MB")
        speed.set(
            xlim=(0, table[["latency_ms_p50", "latency_ms_p95"]].max(axis=None) * 1.04),
            title="Latency, p50 to p95",
            xlabel="ms",
        )
        if with_scores:
            _accuracy_against_latency(panels[2], table)
        freeze_layout(figure)
        if with_scores:
            _label_bubbles(panels[2], table[table["score"].notna()])
        return figure


def _accuracy_against_latency(axes: Axes, table: pd.DataFrame) -> None:
    table = table[table["score"].notna()]
    low, high = (table[c].fillna(table["score"]) for c in ("score_low", "score_high"))
    axes.vlines(table["latency_ms_p50"], low, high, color=INK, linewidth=0.9)
    for i, row in table.iterrows():
        axes.scatter(
            row["latency_ms_p50"],
            row["score"],
            s=_bubble_area(row["size_mb"], table),
            color=SERIES_COLOURS[i % len(SERIES_COLOURS)],
            hatch=SERIES_HATCHES[i % len(SERIES_HATCHES)],
            edgecolor="white",
            linewidth=0.6,
            zorder=2,
        )
    span = max(high.max() - low.min(), 1.0)
    axes.set_ylim(low.min() - 0.45 * span, high.max() + 0.35 * span)
    axes.set_xlim(0, table["latency_ms_p50"].max() * 1.3)
    axes.locator_params(nbins=5)
    value_grid(axes)
    axes.set(title="Score against latency; area: size", xlabel="latency p50 (ms)")
    axes.set_ylabel("score (points)")


def _bubble_area(size_mb: float, table: pd.DataFrame) -> float:
    """In square points; the largest is 19 pt across."""
    return 280 * size_mb / table["size_mb"].max()


def _label_bubbles(axes: Axes, table: pd.DataFrame) -> None:
    """Put each model's name beside its bubble where it covers least, the layout being final."""
    to_pt = 72 / axes.figure.dpi
    window = axes.get_window_extent().extents * to_pt
    points = axes.transData.transform(table[["latency_ms_p50", "score"]].to_numpy()) * to_pt
    radii = [math.sqrt(_bubble_area(size, table) / math.pi) for size in table["size_mb"]]
    taken = [(x - r, y - r, x + r, y + r) for (x, y), r in zip(points, radii, strict=True)]
    for model, (x, y), r in zip(table["model"], points, radii, strict=True):
        name = wrap(model, 84, 2)
        width = max(text_width_pt(line) for line in name.splitlines())
        height = 1.25 * TEXT_PT * len(name.splitlines())
        gap = r + 2
        spots = {
            (gap, 0, "left", "center"): (x + gap, y - height / 2),
            (-gap, 0, "right", "center"): (x - gap - width, y - height / 2),
            (0, gap, "center", "bottom"): (x - width / 2, y + gap),
            (0, -gap, "center", "top"): (x - width / 2, y - gap - height),
            (0, gap, "left", "bottom"): (x, y + gap),
            (0, gap, "right", "bottom"): (x - width, y + gap),
            (0, -gap, "left", "top"): (x, y - gap - height),
            (0, -gap, "right", "top"): (x - width, y - gap - height),
        }

        def cost(corner: tuple[float, float], w: float = width, h: float = height) -> float:
            box = (corner[0], corner[1], corner[0] + w, corner[1] + h)
            outside = w * h - _overlap(box, window)
            return 10 * outside + sum(_overlap(box, other) for other in taken)

        best = min(spots, key=lambda spot: cost(spots[spot]))
        corner = spots[best]
        taken.append((corner[0], corner[1], corner[0] + width, corner[1] + height))
        dx, dy, ha, va = best
        axes.annotate(
            name,
            axes.transData.inverted().transform(np.array([x, y]) / to_pt),
            (dx, dy),
            textcoords="offset points",
            ha=ha,
            va=va,
            linespacing=1.1,
        )


def _overlap(a: tuple, b: tuple) -> float:
    """The area that two boxes (x0, y0, x1, y1) share."""
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def _count(n: float) -> str:
    """66,000,000 as 66 M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if n >= size:
            return f"{number(n / size)} {unit}"
    return f"{n:.0f}"
