"""Size of a model: parameters, bytes on disk, peak memory of a process. 1 MB is 1e6 bytes."""

import sys
import tempfile
from pathlib import Path

from safetensors.torch import save_model
from torch import nn

BYTES_PER_MB = 1e6


def parameter_count(model: nn.Module) -> int:
    """Count parameters, tied ones once (word embeddings and decoder); on the meta device too."""
    return sum(parameter.numel() for parameter in model.parameters())


def bytes_on_disk(model: nn.Module) -> int:
    """Count the bytes of the weights in a safetensors file, tied ones once."""
    with tempfile.TemporaryDirectory(prefix="distilkit-size-") as folder:
        file = Path(folder) / "model.safetensors"
        save_model(model, str(file))
        return file.stat().st_size


def peak_memory_mb() -> float | None:
    """Peak resident memory of this process in MB; None where the system does not report it.

    The peak never falls: to compare two models, measure each in a process of its own.
    """
    if sys.platform.startswith("linux"):
        # Not getrusage: there, a child starts with the peak of the process that started it.
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / BYTES_PER_MB  # the file's "kB" are KiB
    elif sys.platform == "darwin":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / BYTES_PER_MB  # bytes on macOS
    return None
