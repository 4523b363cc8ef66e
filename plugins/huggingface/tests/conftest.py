"""A data folder for every test, and no network."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from offline import refuse_connections

from unlearnbench.api import DataError
from unlearnbench.api.runtime import DataJob


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def connections(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """No test reaches the network: every attempt fails and is noted in this list."""
    return refuse_connections(monkeypatch)


class Job(DataJob):
    """A data job by hand; ``read`` lists the files that were asked for."""

    read: list[str]


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """A job over an empty data folder."""
    read: list[str] = []
    for folder in ("data", "scratch"):
        (tmp_path / folder).mkdir()

    def file(name: str, sha256: str | None = None) -> Path:
        path = tmp_path / "data" / name
        if not path.is_file():
            raise DataError("missing-file", "is not there", where=name)
        read.append(name)
        return path

    made = Job(root=tmp_path / "data", scratch=tmp_path / "scratch", file=file)
    made.read = read
    return made


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with the real AG News."""
    root = Path(os.environ.get("UNLEARNBENCH_DATA", "/nowhere"))
    if not (root / "ag-news/test.csv.gz").is_file():
        pytest.skip("no AG News: UNLEARNBENCH_DATA does not name a folder that has it")
    return root
