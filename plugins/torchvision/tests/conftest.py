"""A data folder of its own for every test, and the real files where they are."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from offline import refuse_connections
from torch import Tensor

from unlearnbench.api import DataError
from unlearnbench.api.runtime import DataJob


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def downloads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """No test reaches the network: every attempt fails and is noted in this list."""
    return refuse_connections(monkeypatch)


class RecordingJob(DataJob):
    """A data job by hand; ``read`` is the manifest, sha256 by name, as the host keeps it."""

    read: dict[str, str]


def make_job(root: Path, scratch: Path) -> RecordingJob:
    """A job over a data folder."""
    read: dict[str, str] = {}

    def file(name: str, sha256: str | None = None) -> Path:
        path = root / name
        if not path.is_file():
            raise DataError("missing-file", "is not there", where=name)
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        if sha256 not in (None, found):
            raise DataError("wrong-digest", f"has sha256 {found}", where=name)
        read[name] = found
        return path

    job = RecordingJob(root=root, scratch=scratch, file=file)
    job.read = read
    return job


@pytest.fixture
def job(tmp_path: Path) -> RecordingJob:
    """A job over an empty data folder."""
    for folder in ("data", "scratch"):
        (tmp_path / folder).mkdir()
    return make_job(tmp_path / "data", tmp_path / "scratch")


@pytest.fixture(scope="session")
def real_root() -> Path:
    """The folder with the real files: UNLEARNBENCH_DATA, else ../shared/data beside the repository."""
    beside = Path(__file__).resolve().parents[3].parent / "shared" / "data"
    root = Path(os.environ.get("UNLEARNBENCH_DATA", beside))
    if not (root / "fashion-mnist/FashionMNIST/raw/train-images-idx3-ubyte.gz").is_file():
        pytest.skip(f"no Fashion-MNIST below {root}; set UNLEARNBENCH_DATA")
    return root


@pytest.fixture(scope="session")
def real_scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One scratch folder for all tests on real files, as between runs."""
    return tmp_path_factory.mktemp("scratch")


@pytest.fixture
def real_job(real_root: Path, real_scratch: Path) -> RecordingJob:
    """A job over the real files."""
    return make_job(real_root, real_scratch)


@pytest.fixture
def job_over() -> Callable[[Path, Path], RecordingJob]:
    """Make a job over any two folders."""
    return make_job


@pytest.fixture
def as_bytes() -> Callable[[Tensor], np.ndarray[Any, Any]]:
    """Pixels [n, h, w, channels] as they were before scaling."""
    return lambda x: (x * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
