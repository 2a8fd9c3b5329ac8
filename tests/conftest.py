"""Fixtures that the whole session shares: one Ray, one small model, the shipped sample."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

# One thread: small matrices gain little from two, and lose much when another process wants the same cores.
torch.set_num_threads(1)

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """An embedded Ray with two cores for all tests that need one."""
    import ray
    from unirna.job import connect_ray

    connect_ray(cpus=2)
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def nano_model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A `nano` checkpoint with random weights."""
    from unirna import model

    return model.initialise("nano", seed=0).save(tmp_path_factory.mktemp("model") / "nano")


@pytest.fixture(scope="session")
def rfam_sample() -> Path:
    """The Rfam sample that the repository ships."""
    return ROOT / "jobs" / "demo" / "rfam_sample.parquet"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real data and golden outputs that stand beside a developer's checkout; tests that need them skip elsewhere."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("needs the shared data beside the checkout, which is absent")
    return folder
