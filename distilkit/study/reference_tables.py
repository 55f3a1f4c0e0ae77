"""Tables of long measurements: the user's own if there is one, else the shipped one."""

import pandas as pd

from distilkit.config import RESULTS, SCALES, Scale

# The verbs that write such a table
COMMANDS = {
    "study": "study --scale {scale}",
    "parts": "study --scale {scale} --tasks cola sst2 stsb",
    "frontier": "frontier --scale {scale}",
}


def load_reference_table(scale: Scale, name: str) -> tuple[pd.DataFrame, Scale, str]:
    """Load a study's or a frontier's table, with its scale and a sentence about its origin.

    It is ``figures/<scale>/<name>.csv``; where that is missing ``data/results/<name>.csv`` with the
    tiny scale. `name` is "study" (nine tasks), "parts" (three tasks, more arms) or "frontier".
    """
    own = scale.figures / f"{name}.csv"
    if own.is_file():
        return pd.read_csv(own), scale, f"figures/{scale.name}/{own.name}: a table of your own"
    path, tiny = RESULTS / f"{name}.csv", SCALES["tiny"]
    description = (
        f"data/results/{path.name}: measured beforehand, at the tiny scale, not in this notebook"
    )
    if scale.name != tiny.name:
        command = f"python -m distilkit {COMMANDS[name].format(scale=scale.name)}"
        description += f" (and not at the scale {scale.name}: {command} would do that)"
    return pd.read_csv(path), tiny, description
