"""The first cell of every notebook: scale, versions, machine."""

import os
import warnings

import accelerate
import torch
import transformers
from tqdm import TqdmWarning

import distilkit
from distilkit.config import Scale, scale
from distilkit.run import commit


def setup_notebook(name: str | None = None) -> Scale:
    """Print scale, versions and machine; return the scale `name`, by default the current one."""
    chosen = scale(name)
    # Loading and saving a small model needs no progress bar in a notebook
    transformers.utils.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", category=TqdmWarning)
    cuda = torch.cuda.is_available()
    device = torch.cuda.get_device_name() if cuda else f"CPU, {_threads()}"
    print(
        f"scale     {chosen.name}: {chosen.about}\n"
        f"versions  torch {torch.__version__}, transformers {transformers.__version__}, "
        f"accelerate {accelerate.__version__}\n"
        f"device    {device}\n"
        f"code      commit {commit()}"
    )
    return chosen


def _threads() -> str:
    """Describe the number of threads; use one less on a busy machine whose threads may spin.

    In Colab and VS Code torch may be loaded before distilkit could say how its threads wait.
    """
    count = torch.get_num_threads()
    load = getattr(os, "getloadavg", lambda: (0.0,))()[0]  # Windows has none
    if distilkit.SHORT_SPIN or count == 1 or load < 0.5:
        return f"{count} threads"
    torch.set_num_threads(count - 1)
    return (
        f"{count - 1} of {count} threads: other programs are busy, and torch was loaded before\n"
        "          distilkit. For all threads set OMP_WAIT_POLICY=passive before the kernel starts"
    )


def provenance(chosen: Scale) -> dict[str, str]:
    """Return scale, seed and commit, for the metadata of a saved figure."""
    return {"scale": chosen.name, "seed": str(chosen.distillation.seed), "commit": commit()}
