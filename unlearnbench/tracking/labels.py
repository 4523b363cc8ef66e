"""How logs and plots call a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def experiment_name(document: Mapping[str, Any]) -> str:
    """The scenario of a record, or ``dataset/model`` where it has none."""
    spec = document["spec"]
    return str(spec["scenario"] or f"{spec['dataset']['name']}/{spec['model']['name']}")


def seed_label(document: Mapping[str, Any]) -> str:
    """``0`` where one seed seeds everything, else the seeds of training, unlearning and measuring, ``0-1-2``."""
    seeds = document["spec"]["seeds"]
    parts = [str(seeds[part]) for part in ("train", "unlearn", "measure")]
    return parts[0] if len(set(parts)) == 1 else "-".join(parts)
