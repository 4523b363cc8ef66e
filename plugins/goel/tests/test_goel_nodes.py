"""Nodes of a real graph are forgotten."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cora_runs import assert_nearer_to_gold, forget_a_class_of_cora

# An epoch on a graph is one step on each set, so there are more of them than on rows. Next to the parameters: the
# accuracy that is left at most of .93; gold's is 0.
NODES: dict[str, tuple[dict[str, Any], float]] = {
    "cf-k": ({"optimizer": "adam", "lr": 0.05, "epochs": 100}, 0.1),
    "eu-k": ({}, 0.05),
}


@pytest.mark.parametrize("name", NODES)
def test_a_class_of_nodes_is_forgotten_and_the_others_are_kept(name: str, tmp_path: Path) -> None:
    params, left = NODES[name]
    assert_nearer_to_gold(forget_a_class_of_cora(name, params, tmp_path), forget=left)
