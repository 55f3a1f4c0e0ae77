"""Tables of long measurements: the reader's own if there is one, else what comes with the kit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from distilkit.config import RESULTS, SCALES, Scale

if TYPE_CHECKING:
    import pandas as pd


# What writes a table of one's own, after the name of the program
COMMANDS = {
    "study": "study --scale {scale}",
    "parts": "study --scale {scale} --tasks cola sst2 stsb",
    "frontier": "frontier --scale {scale}",
}


def load_reference_table(scale: Scale, name: str) -> tuple[pd.DataFrame, Scale, str]:
    """A study's or a frontier's table, the scale that it is of, and a sentence that says so.

    Args:
        scale: the reader's.
        name: "study" (nine tasks), "parts" (a study of three tasks that asks more arms), or
            "frontier".

    Returns:
        ``figures/<scale>/<name>.csv``, which :data:`COMMANDS` write, with `scale`; where it is
        missing ``data/results/<name>.csv`` with the tiny scale, whatever `scale` is.
    """
    import pandas as pd

    own = scale.figures / f"{name}.csv"
    if own.is_file():
        return pd.read_csv(own), scale, f"figures/{scale.name}/{own.name}: a table of your own"
    path, tiny = RESULTS / f"{name}.csv", SCALES["tiny"]
    said = f"data/results/{path.name}: measured beforehand, at the tiny scale, not in this notebook"
    if scale.name != tiny.name:
        command = f"python -m distilkit {COMMANDS[name].format(scale=scale.name)}"
        said += f" (and not at the scale {scale.name}: {command} would do that)"
    return pd.read_csv(path), tiny, said
