"""Published numbers of DistilBERT, for comparison with the kit's own; tables in `published/`.

PAPER: Sanh, Debut, Chaumond and Wolf 2019, "DistilBERT, a distilled version of BERT" (arXiv
1910.01108). README: that of the authors' training code (huggingface/transformers,
research_projects/distillation).
"""

from pathlib import Path

import pandas as pd

from distilkit import config
from distilkit.data.tasks import TASKS

PAPER = "Sanh et al. 2019, arXiv 1910.01108"
GLUE_TASKS = tuple(TASKS[name].title for name in config.GLUE_TASKS)

_FOLDER = Path(__file__).with_name("published")
# The known slips of PAPER and README
SLIPS = tuple((_FOLDER / "slips.txt").read_text("utf-8").splitlines())

RETAINED_PERCENT = 97  # of BERT's performance; PAPER, abstract and caption of Table 1
FEWER_PARAMETERS_PERCENT = 40  # PAPER, abstract and section 4.1
MODEL_SIZE_MB = 207  # PAPER, section 4.1, "On device computation"


def _table(name: str, index: str | None = "model") -> pd.DataFrame:
    table = pd.read_csv(_FOLDER / f"{name}.csv", index_col=index, float_precision="round_trip")
    return table.rename_axis(None)


def glue_scores() -> pd.DataFrame:
    """GLUE dev scores (points, median of 5 runs), PAPER Table 1.

    Columns: `macro_stated` (as printed) and the nine tasks.
    """
    return _table("glue")


def retained() -> pd.DataFrame:
    """The share of BERT-base's score that DistilBERT retains, percent, computed from Table 1.

    Rows: the nine tasks, `macro` (ratio of the two means) and `macro without WNLI`.
    """
    tasks = glue_scores()[list(GLUE_TASKS)]
    without = tasks.drop(columns="WNLI").mean(axis=1)
    columns = tasks.assign(**{"macro": tasks.mean(axis=1), "macro without WNLI": without})
    share = 100 * columns.loc["DistilBERT"] / columns.loc["BERT-base"]
    return share.rename_axis("task").rename("retained").reset_index()


def speed() -> pd.DataFrame:
    """A full pass over STS-B's dev set on a CPU at batch size 1; PAPER, Table 3.

    Index: model; columns: `parameters`, `seconds`, `throughput_ratio` (BERT-base = 1).
    """
    table = _table("speed")
    return table.assign(throughput_ratio=table.loc["BERT-base", "seconds"] / table["seconds"])


def ablation() -> pd.DataFrame:
    """`delta` of the GLUE macro-score (points) for each `left_out` part, PAPER Table 4."""
    return _table("ablation", index=None)
