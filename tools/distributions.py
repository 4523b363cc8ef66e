"""The distributions of this repository, as their pyproject.toml describe them: host, verifier, one for each plugin."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
HOST = "unlearnbench"
VERIFIER = "verifier"
"""The folder of the one distribution that is neither the host nor a plugin: it stands alone."""


@dataclass(frozen=True)
class Distribution:
    """One distribution: its folder, and what its pyproject.toml says."""

    folder: Path
    settings: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.settings["project"]["name"])

    @property
    def version(self) -> str:
        """The one place of truth; everything else is derived from it or compared with it."""
        return str(self.settings["project"]["version"])

    @property
    def short(self) -> str:
        """What tags and options call it: ``unlearnbench`` for the host, ``salun`` for ``unlearnbench-salun``."""
        return self.name.removeprefix(f"{HOST}-")

    @property
    def is_plugin(self) -> bool:
        """Whether the host finds something in it."""
        return HOST in self.settings["project"].get("entry-points", {})

    @property
    def requires(self) -> set[str]:
        """Distributions that it needs, by name."""
        return {str(canonicalize_name(Requirement(line).name)) for line in self.settings["project"]["dependencies"]}

    @property
    def commands(self) -> list[str]:
        """What it can be called as in a shell."""
        return sorted(self.settings["project"].get("scripts", ()))

    @property
    def tag(self) -> str:
        """The git tag that releases this version; the host's is plain: copier takes it for the template's."""
        return f"v{self.version}" if self.name == HOST else f"{self.short}-v{self.version}"

    @property
    def roots(self) -> dict[Path, str]:
        """Folders of the checkout that a wheel is made of, and where each of them lies in it; the package is first."""
        wheel = self.settings["tool"]["hatch"]["build"]["targets"]["wheel"]
        moved = wheel.get("sources", {})
        return {
            self.folder / root: moved.get(root, Path(root).name)
            for root in wheel.get("packages", ()) or wheel["only-include"]
        }

    @property
    def package(self) -> str:
        """The top-level package."""
        return next(iter(self.roots.values()))


def read(folder: Path) -> Distribution:
    """The distribution in a folder."""
    return Distribution(folder, tomllib.loads((folder / "pyproject.toml").read_text("utf-8")))


def distributions(root: Path = ROOT) -> list[Distribution]:
    """The host, every plugin, and the verifier: the host first."""
    others = sorted(
        path.parent for path in [*root.glob("plugins/*/pyproject.toml"), root / VERIFIER / "pyproject.toml"]
    )
    return [read(folder) for folder in (root, *others)]
