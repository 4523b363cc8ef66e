"""A data folder and a cache of its own for every test, and data sets loaded as a run does."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from unlearnbench.api.runtime import Splits
from unlearnbench.parameters import parameters_json, resolve_parameters
from unlearnbench.registry import registry
from unlearnbench.scenes import load_dataset
from unlearnbench.spec import Choice


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def real_root() -> Path:
    """The folder of real data, if there is one."""
    named = os.environ.get("UNLEARNBENCH_DATA")
    if not named:
        pytest.skip("UNLEARNBENCH_DATA does not name a folder of real data")
    return Path(named)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data folder, which runs of this test use, beside a cache of its own."""
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setenv("UNLEARNBENCH_DATA", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


@pytest.fixture
def load() -> Callable[..., Splits]:
    """Load a data set of the data folder by name and parameters."""

    def loaded(name: str, **params: Any) -> Splits:
        spec = registry().get("dataset", name).spec
        resolved = parameters_json(resolve_parameters(spec.params, params, where=name))
        return load_dataset(registry(), Choice(name, resolved))[0]

    return loaded
