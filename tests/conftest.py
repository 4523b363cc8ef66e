"""What all tests share: helper modules beside them, a clean environment, fixture plugins that are really installed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

# Test modules are imported by file, so the folder with their helpers is on nobody's path.
sys.path.insert(0, str(Path(__file__).parent))

PLUGINS = Path(__file__).parent / "fixtures" / "plugins"


@pytest.fixture(autouse=True, scope="session")
def _clean_environment() -> Iterator[None]:
    """A developer's own allow-list or tracking server must not change what the tests see."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("UNLEARNBENCH_PLUGINS", "UNLEARNBENCH_TRACEBACK", "MLFLOW_TRACKING_URI", "COLUMNS"):
            if name in os.environ:
                patch.delenv(name)
        yield


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the fixture plugins installed by pip, so that their entry points come from real metadata."""
    target = tmp_path_factory.mktemp("site")
    folders = sorted(str(path.parent) for path in PLUGINS.glob("*/pyproject.toml") if path.parent.name != "toys")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    offline = ["--no-index", "--no-build-isolation", "--target", str(target)]
    made = subprocess.run([*command, *offline, *folders], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    return target


class Cli(Protocol):
    """The command line in a process of its own, beside the fixture plugins."""

    def __call__(self, *arguments: str | Path, plugins: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run it; ``plugins`` is the allow-list."""


@pytest.fixture(scope="session")
def cli(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Cli:
    """Runs the command line where the fixture plugins are installed, in a folder of its own."""
    folder = tmp_path_factory.mktemp("cli")

    def run(*arguments: str | Path, plugins: str | None = None) -> subprocess.CompletedProcess[str]:
        allowed = {} if plugins is None else {"UNLEARNBENCH_PLUGINS": plugins}
        return subprocess.run(
            [sys.executable, "-m", "unlearnbench", *map(str, arguments)],
            capture_output=True, text=True, check=False, timeout=300, cwd=folder,
            env={**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1", **allowed},
        )  # fmt: skip

    return run


@pytest.fixture(autouse=True, scope="session")
def _shared_place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Where processes of one session put what only one of them makes."""
    import once

    base = tmp_path_factory.getbasetemp()
    once.use(base.parent if hasattr(request.config, "workerinput") else base)


@pytest.fixture(scope="session")
def suite_folder() -> Path:
    """Real runs of ``identity`` and ``finetune`` on the first scenario of quick/v1, all seeds, with their store."""
    from shared import suite_folder

    return suite_folder()


@pytest.fixture(scope="session")
def small_submission() -> Path:
    """A submission of these runs, with weights. It is shared: change copies of it (``submissions.tampered``)."""
    from shared import small_submission

    return small_submission()


@pytest.fixture(scope="module")
def measured_once() -> Iterator[None]:
    """For modules that verify many copies of a submission: only what a change touched is measured again."""
    import shared

    with shared.measured_once():
        yield
