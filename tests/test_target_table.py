"""The table after a run that forgets a target: what became of it and of the others, instead of mean accuracies."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import call

SMALL = ("--set", "shapes.train_rows=120", "--set", "shapes.test_rows=60", "--set", "recipe.epochs=1",
         "--no-tracking")  # fmt: skip


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A terminal with room, in a folder of its own."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)


def table(*arguments: str) -> list[str]:
    done = call("run", *SMALL, *arguments)
    assert done.rc == 0, done.stderr
    return done.stdout.splitlines()


def test_labels_are_shown_with_the_auc_beside_the_recall() -> None:
    caption, *lines = table("--scenario", "shapes-multilabel/v1", "--unlearner", "essential-graph",
                            "--forget", "target=cross")  # fmt: skip
    assert "target cross: absent in" in caption
    assert "of 108 rows" in caption
    heading = next(line for line in lines if "recall" in line)
    for word in ("recall", "AUC", "new threshold", "others recall", "others bal acc", "CPU s", "speed-up"):
        assert word in heading
    assert "retain acc" not in heading
    assert [line.split()[0] for line in lines[lines.index(heading) + 2 :][:3]] == [
        "original",
        "gold",
        "essential-graph",
    ]


def test_masks_are_shown_with_their_overlap() -> None:
    caption, *lines = table(
        "--scenario", "shapes-segmentation/v1", "--unlearner", "essential-graph", "--forget", "target=cross,disc",
        "--set", "essential-graph.instances=2", "--set", "recipe.epochs=6", "--set", "recipe.batch_size=16",
        "--set", "recipe.lr=0.01",
    )  # fmt: skip
    assert "targets cross, disc: absent in" in caption
    heading = next(line for line in lines if "IoU" in line)
    assert "others IoU kept" in heading
    assert "AUC" not in heading


def test_boxes_are_shown_with_their_average_precision() -> None:
    lines = table("--dataset", "shapes", "--set", "shapes.task=detection", "--model", "scene-boxes",
                  "--unlearner", "identity", "--measure", "per-target", "--forget", "target=disc",
                  "--set", "recipe.optimizer=adamw", "--set", "recipe.lr=0.002")  # fmt: skip
    heading = next(line for line in lines if "AP50" in line)
    assert "others AP50 lost" in heading
