"""Independent runs side by side: the same results, in order, and failures come through."""

import os
import signal
import time
from pathlib import Path

import psutil
import pytest
import torch
from forked import Forked
from tqdm.auto import tqdm

from distilkit.study import run_parallel as run_parallel_module
from distilkit.study.run_parallel import run_parallel

pytestmark = pytest.mark.processes


@pytest.fixture
def threads(monkeypatch):
    """What OMP_NUM_THREADS would set, and back again; with two workers at most."""
    before = torch.get_num_threads()
    monkeypatch.setattr(run_parallel_module, "MAX_WORKERS", 2)
    yield torch.set_num_threads
    torch.set_num_threads(before)


def where(number: int) -> tuple[int, int, int]:
    return number, os.getpid(), torch.get_num_threads()


def count_aloud(number: int) -> int:
    return sum(tqdm(range(number), "worker's own bar", disable=False))


def refuse(number: int) -> int:
    if number == 2:
        raise ValueError(f"{number} is not allowed")
    return number


def test_results_come_in_order_from_processes_that_share_the_threads(threads):
    threads(4)
    found = run_parallel(where, [(number,) for number in range(6)], "count")
    assert [number for number, _, _ in found] == list(range(6))
    workers = {pid for _, pid, _ in found}
    assert os.getpid() not in workers
    assert 1 <= len(workers) <= 2
    assert {each for _, _, each in found} == {2}


def test_one_thread_means_one_process_and_one_item_too(threads):
    threads(2)
    assert run_parallel(where, [(7,)], "count") == [(7, os.getpid(), 2)]
    threads(1)
    assert {pid for _, pid, _ in run_parallel(where, [(1,), (2,)], "count")} == {os.getpid()}
    assert run_parallel(where, [], "count") == []


def test_only_the_bar_that_counts_is_drawn(threads, capfd):
    threads(4)
    assert run_parallel(count_aloud, [(3,), (4,), (5,)], "count") == [3, 6, 10]
    drawn = capfd.readouterr().err
    assert "count: 100%" in drawn
    assert "worker's own bar" not in drawn


@pytest.mark.parametrize("count", [1, 4])
def test_what_a_call_raises_is_raised_here(threads, count):
    threads(count)
    with pytest.raises(ValueError, match="2 is not allowed"):
        run_parallel(refuse, [(1,), (2,), (3,)], "count")


NAPS = """
import os, pathlib, sys, time, torch
from distilkit.study.run_parallel import run_parallel

def nap(number):
    pathlib.Path(sys.argv[1], str(number)).write_text(str(os.getpid()))
    time.sleep(1 if number > 2 else 5)  # those that are running, and the next ones

torch.set_num_threads(2)
run_parallel(nap, [(number,) for number in range(1, 100)], "nap")
"""


@pytest.mark.skipif(os.name == "nt", reason="no signals, and a parent's number stays")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_their_parent(number, tmp_path):
    script, seen = tmp_path / "naps.py", tmp_path / "seen"
    script.write_text(NAPS)
    seen.mkdir()
    parent = Forked([script, seen])
    try:
        workers = wait_for(lambda: two_numbers(seen))
        parent.send_signal(number)
        parent.wait(60)
        wait_for(lambda: not any(is_running(worker) for worker in workers))
    finally:
        parent.kill()
    assert len(list(seen.iterdir())) < 20, "the workers went on through the items"


def wait_for(what):
    for _ in range(600):
        if result := what():
            return result
        time.sleep(0.1)
    raise AssertionError("waited for a minute in vain")


def two_numbers(folder: Path) -> list[int]:
    texts = [path.read_text() for path in folder.iterdir()]
    return [int(text) for text in texts] if len(texts) == 2 and all(texts) else []


def is_running(pid: int) -> bool:
    """Neither gone nor a zombie that nobody waits for."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
