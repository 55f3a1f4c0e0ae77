"""A run, watched while it trains: its losses, learning rate and speed, and a Stop button.

Nothing is wired into the loop. A thread reads what the loop writes, ``metrics.jsonl``, and Stop is
the signal that Ctrl-C sends, which the loop answers with a checkpoint at the end of its step.
"""

from __future__ import annotations

import _thread
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from distilkit.config import TrainingConfig
from distilkit.panels.panel import Panel
from distilkit.run import Run, run_folder
from distilkit.training_loop import total_steps

EVERY_S = 0.5
MOST_POINTS = 400  # of a curve: more are not seen, and would have to be sent every time
_CURVES = ("loss", "soft_target", "mlm", "cosine", "learning_rate", "tokens_per_second")


class Stopped(KeyboardInterrupt):
    """The reader wished it; a notebook shows the one line, and runs no further cell."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


@contextmanager
def training_view(name: str, *, about: dict[str, Any] | None = None) -> Iterator[Panel]:
    """Inside, the run `name` is drawn as it trains: ``with training_view("mine"): distil(...)``.

    Stop ends the run after its step, with a checkpoint, as the notebook's own stop button does; the
    cell run again goes on from there.

    Args:
        name: of the run that is trained inside.
        about: for the metadata of a saved picture.

    Yields:
        The panel, which is shown already.

    Raises:
        ValueError: no name of a run.
        Stopped: in place of the loop's KeyboardInterrupt.
    """
    from IPython.display import display

    run = Run(run_folder(name))
    lock, over = threading.RLock(), threading.Event()
    state = "running"

    def show() -> None:
        with lock:
            now = seen(run, state, about)
            if now != panel.value:
                panel.value = now

    def answer(asked: dict[str, Any]) -> dict[str, Any]:
        nonlocal state
        if asked["ask"] != "stop":
            raise ValueError(f"this panel has no answer to {asked['ask']!r}")
        with lock:
            # once: a second signal would end the run without its checkpoint; and never too late,
            # when it would interrupt whatever runs then
            if state != "running":
                return {}
            state = "stopping"
            _thread.interrupt_main(signal.SIGINT)
        return {"state": state}

    panel = Panel("training.js", seen(run, state, about), answer=answer)
    # JupyterLab sends Stop to a thread of its own in the kernel; ipykernel 7.4 would put it back
    # into the queue behind the very cell that it is to stop
    panel.comm._reply_subshell_for = None
    shown = display(panel, display_id=True)

    def follow() -> None:
        while not over.wait(EVERY_S):
            try:
                show()
            except Exception as error:  # the training goes on; the panel says what it lacks
                panel.send({"error": str(error)})

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    end = "failed"
    try:
        yield panel
        end = "finished" if run.finished else "not finished"
    except KeyboardInterrupt:
        end = "stopped"
        raise Stopped(f"{name} is stopped: run this cell again, and it goes on") from None
    finally:
        with lock:
            state = end
        over.set()
        thread.join()
        with suppress(ValueError, OSError):  # a line that cannot be read hides no error of the run
            show()
        if shown is not None:
            shown.update(panel)  # what is exported later shows the end, not the beginning


def seen(run: Run, state: str, about: dict[str, Any] | None = None) -> dict[str, Any]:
    """What the panel draws of a run: curves as lists, thinned to :data:`MOST_POINTS` each."""
    rows = run.rows()
    parts = {}
    for split in ("train", "validation"):
        of_split = [row for row in rows if row["split"] == split]
        every = -(-len(of_split) // MOST_POINTS)
        kept = of_split[::-1][:: every or 1][::-1]  # the last one always
        parts[split] = {key: [row.get(key) for row in kept] for key in ("step", *_CURVES)}
    about = about or {}
    return {"name": run.name, "state": state, "steps": _steps(run), **parts, "about": about}


def _steps(run: Run) -> int | None:
    """Of the whole run; None before it has begun."""
    if not (run.path / "config.json").is_file():
        return None
    config = run.config()
    training = config["training"]
    if training["steps"] or "blocks" not in config:
        return training["steps"]
    return total_steps(config["blocks"][0], TrainingConfig(**training))
