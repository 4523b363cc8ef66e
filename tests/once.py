"""What takes long to make is made once for all processes of a session, by whichever asks first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

_place: list[Path] = []


def use(base: Path) -> None:
    """Say which folder the processes of this session have in common."""
    _place[:] = [base / "shared"]


def once(name: str, make: Callable[[Path], object]) -> Path:
    """A folder that ``make`` fills, in the first process that asks; others wait for it."""
    (place,) = _place
    folder, done = place / name, place / f"{name}.done"
    place.mkdir(exist_ok=True)
    with FileLock(place / f"{name}.lock"):
        if not done.exists():
            make(folder)
            done.touch()
    return folder
