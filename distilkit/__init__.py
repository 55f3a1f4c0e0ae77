"""Knowledge distillation of BERT: readable, reproducible, with figures.

A first script imports from here. Models and tokenizers stay Hugging Face's own objects.
"""

import os as _os
import sys as _sys
from importlib import import_module as _import_module

# OpenMP threads busy-wait for one another. Next to a busy process they slow down the very thread
# that they wait for: a step takes 3 to 5 times as long. A short spin halves that, and costs little
# on an idle machine (tests/measurements/measure_busy.py). OpenMP reads these variables once, when
# torch is loaded.
if "torch" in _sys.modules:
    SHORT_SPIN = bool({"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & _os.environ.keys())
else:
    SHORT_SPIN = True
    if "OMP_WAIT_POLICY" not in _os.environ:
        _os.environ.setdefault("GOMP_SPINCOUNT", "300")

# ONNX Runtime (from 1.29) sends usage data to its maker unless told before it is loaded. Whoever
# wants that sets the variable to 0.
_os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# Importing torch, transformers or matplotlib takes seconds: a name is imported on first use.
_NAMES = {  # module -> its public names
    "cli.setup_notebook": "provenance setup_notebook",
    "compress.compress": "compress",
    "compress.embeddings": "compress_embeddings",
    "config": "FinetuneLossConfig LossConfig TrainingConfig home scale",
    "data.own_task": "task_from unlabelled_from",
    "data.sources": "load_blocks load_task load_teacher",
    "data.tasks": "Task",
    "distillation": "distil losses_on pretrain",
    "finetuning": "classifier evaluate_task fine_tuned_on finetune",
    "models.fill_mask": "fill_mask",
    "models.pruning": "prune",
    "panels.losses": "loss_panel",
    "panels.temperature": "temperature_panel",
    "panels.training": "training_view",
    "panels.words": "words_panel",
    "plots.style": "save_figure",
    "plots.training_curves": "plot_losses",
    "student": "student_from_teacher",
}
_MODULE_OF = {name: module for module, names in _NAMES.items() for name in names.split()}

__all__ = [*_MODULE_OF]


def __getattr__(name: str):
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'distilkit' has no attribute {name!r}")
    value = getattr(_import_module(f"distilkit.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
