"""What all tests share: helper modules beside them, a clean environment, and fixture plugins that are really installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

# Test modules are imported by file, so the folder with their helpers is on nobody's path.
sys.path.insert(0, str(Path(__file__).parent))

PLUGINS = Path(__file__).parent / "fixtures" / "plugins"


@pytest.fixture(autouse=True, scope="session")
def _clean_environment(tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test reads a developer's settings, writes into their folders, or looks for a network."""
    for name in [name for name in os.environ if name.startswith(("UNLEARNBENCH_PLUGINS", "MLFLOW_TRACKING"))]:
        del os.environ[name]
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))
    os.environ["XDG_DATA_HOME"] = str(tmp_path_factory.mktemp("data"))
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = os.environ["DO_NOT_TRACK"] = "true"


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the fixture plugins installed by pip, so that their entry points come from real metadata."""
    target = tmp_path_factory.mktemp("site")
    folders = sorted(str(path.parent) for path in PLUGINS.glob("*/pyproject.toml") if path.parent.name != "toys")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    offline = ["--no-index", "--no-build-isolation", "--no-warn-conflicts", "--target", str(target)]
    made = subprocess.run([*command, *offline, *folders], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    return target
