"""Writes new plugins: the copier template in ``template`` and, in ``render``, what fills it in."""

from pathlib import Path
from typing import Literal

Licence = Literal["Apache-2.0", "MIT", "BSD-3-Clause"]

TEMPLATE = Path(__file__).parent / "template"
