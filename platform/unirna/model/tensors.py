"""Writing tensors, so that whoever may read the folder may read them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor


def save_tensors(tensors: Mapping[str, Tensor], path: str | Path, metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file with the permissions of any new file; safetensors itself leaves it to its owner alone.

    Args:
        tensors: contiguous ones, by name. path: of the file. metadata: text to go along.
    """
    path = Path(path)
    path.touch()
    usual = path.stat().st_mode & 0o777
    save_file(dict(tensors), path, metadata=metadata)
    path.chmod(usual)
