"""Knowledge distillation of BERT: readable, reproducible, with figures.

Notebooks import its names from here. Models and tokenizers stay Hugging Face's own objects.
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
    "config": "MLM_ONLY FinetuneLossConfig LossConfig Scale TrainingConfig home scale",
    "losses": "cosine_loss mlm_loss soft_target_loss softmax_with_temperature triple_loss",
    "study.arms": "finetune_arms macro_scores paired_difference results_table retained",
    "study.paper_comparison": "compare_with_paper",
    "data.block_cache": "cached_blocks",
    "study.calibration": "calibration_table",
    "compress.compress": "compress",
    "compress.embeddings": "compress_embeddings",
    "data.own_task": "task_from unlabelled_from",
    "data.packing": "pack",
    "data.tasks": "Task",
    "masking": "MaskedBlocks",
    "data.documents": "open_text",
    "study.fidelity": "by_group compare_runs",
    "plots.paper_comparison": "plot_against_paper",
    "plots.compression": "plot_compression",
    "plots.cost": "plot_size_speed_accuracy",
    "plots.fidelity": "plot_fidelity",
    "plots.layer_map": "plot_layer_map",
    "plots.scores": "plot_glue_bars",
    "plots.study": "plot_study",
    "plots.style": "save_figure",
    "models.fill_mask": "fill_mask",
    "finetuning": "classifier evaluate_task fine_tuned_on finetune",
    "families": "mlm_head",
    "fused_loss": "fused_triple_loss",
    "measure.latency": "compare",
    "measure.size": "bytes_on_disk parameter_count",
    "panels.losses": "loss_panel",
    "panels.temperature": "temperature_panel",
    "panels.training": "training_view",
    "panels.words": "words_panel",
    "plots.temperature": "plot_one_hot_and_soft plot_temperatures",
    "plots.training_curves": "plot_losses",
    "distillation": "distil losses_on pretrain",
    "models.pruning": "prune",
    "report.page": "write_report",
    "run": "Run",
    "cli.setup_notebook": "provenance setup_notebook",
    "data.sources": "load_blocks load_task load_teacher",
    "student": "DISTILBERT_LAYERS default_layers random_student_like student_from_teacher",
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
