"""A live view of a training run: losses, learning rate and speed, and a Stop button.

The training loop knows nothing of it. A thread reads the loop's ``metrics.jsonl``. Stop sends the
signal of Ctrl-C, and the loop answers with a checkpoint at the end of its step.
"""

import _thread
import math
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from distilkit.config import TrainingConfig
from distilkit.panels.panel import Panel
from distilkit.run import Run, run_folder
from distilkit.training_loop import total_steps

INTERVAL_S = 0.5
MAX_POINTS = 400  # of a curve; all points are sent at each update
_CURVES = ("loss", "soft_target", "mlm", "cosine", "learning_rate", "tokens_per_second")


class Stopped(KeyboardInterrupt):
    """Interruption by the Stop button; the notebook shows one line and runs no further cell."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


@contextmanager
def training_view(name: str, *, about: dict[str, Any] | None = None) -> Iterator[Panel]:
    """Draw the run `name` while it trains inside: ``with training_view("r"): distil(...)``.

    Stop ends the run after its step with a checkpoint, like the notebook's own stop button, and
    raises :class:`Stopped`. Running the cell again resumes from there. `about` goes into the
    metadata of a saved picture.
    """
    from IPython.display import display

    run = Run(run_folder(name))
    lock, over = threading.RLock(), threading.Event()
    state = "running"

    def show() -> None:
        with lock:
            value = panel_value(run, state, about)
            if value != panel.value:
                panel.value = value

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        nonlocal state
        if request["ask"] != "stop":
            raise ValueError(f"this panel has no answer to {request['ask']!r}")
        with lock:
            # Only once: a second signal would end the run without its checkpoint. And not after
            # its end, when it would interrupt other code.
            if state != "running":
                return {}
            state = "stopping"
            _thread.interrupt_main(signal.SIGINT)
        return {"state": state}

    panel = Panel("training.js", panel_value(run, state, about), answer=answer)
    # JupyterLab sends Stop to a separate thread of the kernel. ipykernel 7.4 would queue it behind
    # the cell that it should stop
    panel.comm._reply_subshell_for = None
    shown = display(panel, display_id=True)

    def follow() -> None:
        while not over.wait(INTERVAL_S):
            try:
                show()
            except Exception as error:  # training continues; the panel shows the error
                panel.send({"error": str(error)})

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    end = "failed"
    try:
        yield panel
        end = "finished" if run.finished else "not finished"
    except KeyboardInterrupt:
        end = "stopped"
        raise Stopped(f"{name} is stopped: run this cell again to resume it") from None
    finally:
        with lock:
            state = end
        over.set()
        thread.join()
        with suppress(ValueError, OSError):  # an unreadable line must not hide an error of the run
            show()
        if shown is not None:
            shown.update(panel)  # so that an exported notebook shows the end


def panel_value(run: Run, state: str, about: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return what the panel draws of a run: curves of at most :data:`MAX_POINTS` points."""
    rows, steps = run.rows(), None
    if (run.path / "config.json").is_file():  # the run has begun
        config = run.config()
        count = config["blocks"][0] if "blocks" in config else config["examples"]
        steps = total_steps(count, TrainingConfig(**config["training"]))
    parts = {}
    for split in ("train", "validation"):
        of_split = [row for row in rows if row["split"] == split]
        stride = max(1, math.ceil(len(of_split) / MAX_POINTS))
        shown = of_split[::-1][::stride][::-1]  # always with the last one
        curves = {key: [row.get(key) for row in shown] for key in _CURVES}
        # a term without weight is logged as 0, which is no distance of 0
        curves = {key: values for key, values in curves.items() if any(values)}
        parts[split] = {"step": [row["step"] for row in shown], **curves}
    return {"name": run.name, "state": state, "steps": steps, **parts, "about": about or {}}
