def plot_layer_map(
    teacher_layers: int,
    layers: Sequence[int],
    teacher_name: str = "teacher",
    student_name: str = "student",
) -> Figure:
    """Which teacher layer each student layer starts from, as a schematic. 3.3 in wide.

    Arrows stand for copied weights. The teacher's token-type embeddings and its pooler have no
    counterpart in the student: row 0 of the former is folded into the student's word embeddings,
    the latter is dropped.

    Args:
        teacher_layers: the teacher's number of layers, n.
        layers: for each student layer, from the input up, the teacher layer (0 to n - 1) that it
            copies.

    Raises:
        ValueError: without layers, or for a layer that the teacher does not have.
    """
    layers = [int(layer) for layer in layers]
    if not layers:
        raise ValueError("layers is empty: name at least one teacher layer to copy")
    strangers = [layer for layer in layers if not 0 <= layer < teacher_layers]
    if strangers:
        raise ValueError(f"layers {strangers}: the teacher has layers 0 to {teacher_layers - 1}")

    step, block_in, margin = 0.235, 1.2, 0.06  # inches
    teacher_rows = teacher_layers + 4  # token types, embeddings, layers, head, pooler
    student_rows = len(layers) + 2
    names = [wrap(name, 86, 3, weight="bold") for name in (teacher_name, student_name)]
    foot = 0.42
    # Rows count from the token types upwards; the student's stack is centred on what it copies.
    lift = 1 + (teacher_rows - 2 - student_rows) / 2
    rows = max(teacher_rows, student_rows + lift)
    sink = max(0.0, -lift)
    height_in = foot + (rows + sink) * step + 0.19 * max(n.count("\n") + 1 for n in names) + 0.1

    with figure_style():
        figure = new_figure(COLUMN_IN, height_in)
        figure.set_layout_engine("none")
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, COLUMN_IN), ylim=(0, height_in))
        axes.set_axis_off()
        left = margin, COLUMN_IN - margin - block_in  # of the teacher's, of the student's blocks

        def block(column: int, row: float, text: str, kind: str = "copied") -> tuple[float, float]:
            """Draw one block; return the middle of its inner side."""
            x, y = left[column], foot + (row + sink) * step
            look = {
                "copied": {"facecolor": "#CDE4F3", "edgecolor": BLUE},
                "left": {"facecolor": "white", "edgecolor": "#A8A8A8"},
                "gone": {"facecolor": "white", "edgecolor": "#A8A8A8", "hatch": "//////"},
            }[kind]
            axes.add_patch(Rectangle((x, y), block_in, step * 0.78, linewidth=0.7, **look))
            axes.text(
                x + block_in / 2,
                y + step * 0.39,
                text,
                ha="center",
                va="center_baseline",
                color=INK if kind == "copied" else GREY,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.2}
                if kind == "gone"
                else None,
            )
            return (x + (block_in if column == 0 else 0), y + step * 0.39)

        def arrow(start: tuple, end: tuple, **look) -> None:
            style = {"color": BLUE, "linewidth": 0.9, **look}
            axes.add_patch(
                FancyArrowPatch(
                    start, end, arrowstyle="-|>", mutation_scale=6, shrinkA=1, shrinkB=1, **style
                )
            )

        token_types = block(0, 0, "token types", "gone")
        embeddings = block(0, 1, "embeddings")
        sources = [
            block(0, 2 + i, f"layer {i}", "copied" if i in layers else "left")
            for i in range(teacher_layers)
        ]
        head = block(0, 2 + teacher_layers, "MLM head")
        pooler = block(0, 3 + teacher_layers, "pooler", "gone")
        student_embeddings = block(1, lift, "embeddings")
        for i, layer in enumerate(layers):
            arrow(sources[layer], block(1, lift + 1 + i, f"layer {i}"))
        arrow(embeddings, student_embeddings)
        arrow(head, block(1, lift + student_rows - 1, "MLM head"))
        arrow(token_types, student_embeddings, linestyle=(0, (3, 2)), color=GREY)
        axes.text(token_types[0] + 0.75, token_types[1], "row 0 folded in", va="center_baseline")
        axes.text(pooler[0] + 0.1, pooler[1], "dropped", va="center_baseline")
        top = foot + (rows + sink) * step + 0.02
        for x, name in zip(left, names, strict=True):
            axes.text(x + block_in / 2, top, name, ha="center", va="bottom", fontweight="bold")
        _layer_map_key(axes, margin)
        return figure


def _layer_map_key(axes: Axes, x: float) -> None:
    for text, look in (
        ("copied", {"facecolor": "#CDE4F3", "edgecolor": BLUE}),
        ("left out", {"facecolor": "white", "edgecolor": "#A8A8A8"}),
        ("no counterpart", {"facecolor": "white", "edgecolor": "#A8A8A8", "hatch": "//////"}),
    ):
        axes.add_patch(Rectangle((x, 0.12), 0.16, 0.11, linewidth=0.7, **look))
        axes.text(x + 0.22, 0.175, text, va="center_baseline")
        x += 0.22 + text_width_pt(text) / 72 + 0.2
