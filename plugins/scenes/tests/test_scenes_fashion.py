"""Scenes of Fashion-MNIST's items: what is composed, of what, and where it lies."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from unlearnbench.api import DataError
from unlearnbench.api.runtime import TASKS, DataJob, Splits, present
from unlearnbench_scenes import composing, idx
from unlearnbench_scenes.fashion import FOLDER, FashionScenes
from unlearnbench_scenes.plugin import FashionScenesParams

Array = np.ndarray[Any, Any]
ALL = ("multi-label", "segmentation", "detection")
STEMS = [f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
WIDTHS = {0: 4, 1: 8, 7: 13, 8: 19, 9: 26}
"""Columns of the drawn items by class: their shape says what they are."""


class Recording(DataJob):
    """A data job by hand that notes what was read."""

    read: list[str]


def job_at(root: Path) -> Recording:
    read: list[str] = []

    def file(name: str) -> Path:
        read.append(name)
        return root / name

    job = Recording(root=root, scratch=root / "scratch", file=file)
    job.read = read
    return job


def packed(array: Array) -> bytes:
    head = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return head + array.astype(np.uint8).tobytes()


def drawn(rows: int, height: int) -> Array:
    """Solid items: the class gives the width, the part (training or test) the height; other classes fill the image."""
    images = np.zeros((10 * rows, 28, 28), np.uint8)
    for row, image in enumerate(images):
        width = WIDTHS.get(row % 10, 28)
        image[: height if row % 10 in WIDTHS else 28, :width] = 255 - row // 10
    return images


@pytest.fixture
def job(tmp_path: Path) -> Recording:
    """Training items fill the height of their image, test items half of it."""
    folder = tmp_path / FOLDER
    folder.mkdir(parents=True)
    for part, rows, height in (("train", 12, 28), ("t10k", 5, 14)):
        for kind, array in (("images-idx3", drawn(rows, height)), ("labels-idx1", np.arange(10 * rows) % 10)):
            (folder / f"{part}-{kind}-ubyte.gz").write_bytes(gzip.compress(packed(array)))
    return job_at(tmp_path)


@pytest.fixture(scope="module")
def real() -> DataJob:
    root = Path(os.environ.get("UNLEARNBENCH_DATA", Path(__file__).resolve().parents[3].parent / "shared" / "data"))
    if not (root / FOLDER / f"{STEMS[0]}.gz").is_file():
        pytest.skip(f"no Fashion-MNIST below {root}; set UNLEARNBENCH_DATA")
    return job_at(root)


@pytest.fixture(scope="module")
def by_task(real: DataJob) -> dict[str, Splits]:
    return {task: load(real, task, train_rows=250, test_rows=100) for task in ALL}


def load(job: DataJob, task: str = "detection", **params: Any) -> Splits:
    return FashionScenes(FashionScenesParams(task=task, **{"train_rows": 80, "test_rows": 60, **params})).load(job)  # type: ignore[arg-type]


def frames_of(stock: Sequence[Array], n: int, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, list[list[Any]]]:
    """Scenes of size 64, and the frames of each scene's items as they were placed."""
    found: list[list[Any]] = []
    place = composing.place

    def noting(width: int, height: int, taken: Any, *rest: Any) -> Any:
        if not taken:
            found.append([])
        frame = place(width, height, taken, *rest)
        if frame is not None:
            found[-1].append(frame)
        return frame

    monkeypatch.setattr(composing, "place", noting)
    return composing.compose(stock, n, 64, np.random.default_rng(5)), found


def solid(classes: int = 3) -> list[Array]:
    return [np.full((2, 28, 28), 255, np.uint8)] * classes


def test_another_process_composes_the_same_bits(job: Recording) -> None:
    program = f"""
from pathlib import Path
from unlearnbench.api.runtime import DataJob
from unlearnbench_scenes.fashion import FashionScenes
from unlearnbench_scenes.plugin import FashionScenesParams
root = Path({str(job.root)!r})
job = DataJob(root=root, scratch=root, file=lambda name: root / name)
splits = FashionScenes(FashionScenesParams(task="detection", train_rows=80, test_rows=60)).load(job)
print(splits.train.digest(), splits.test.digest())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    splits = load(job)
    assert done.stdout.split() == [splits.train.digest(), splits.test.digest()]


def test_every_task_annotates_the_very_same_images(by_task: dict[str, Splits]) -> None:
    for part in ("train", "test"):
        first, *others = (getattr(splits, part) for splits in by_task.values())
        assert all(torch.equal(first.x, other.x) and torch.equal(first.ids, other.ids) for other in others)
    assert by_task["detection"].train.outputs == ("tshirt", "trouser", "sneaker", "bag", "boot")
    assert by_task["segmentation"].test.outputs == ("background", "tshirt", "trouser", "sneaker", "bag", "boot")


def test_the_host_finds_no_fault_in_scenes_of_real_items(by_task: dict[str, Splits]) -> None:
    for task, splits in by_task.items():
        for part in (splits.train, splits.test):
            assert part.x.shape[1:] == (3, 64, 64)
            assert part.x.dtype == torch.float32
            assert 0 <= float(part.x.min()) < float(part.x.max()) <= 1
            assert TASKS[task].find_fault(part.x, part.y, len(part.outputs)) is None


def test_labels_masks_and_boxes_of_a_scene_agree(by_task: dict[str, Splits]) -> None:
    labels, masks, boxes = (by_task[task].train.y for task in ALL)
    for row in range(len(labels)):
        shown = {k: masks[row] == k + 1 for k in range(5)}
        found = boxes[row][present(boxes[row])].tolist()
        assert 1 <= len(found) <= 4
        assert not present(boxes[row])[len(found) :].any()
        assert [bool(v) for v in labels[row]] == [bool(shown[k].any()) for k in range(5)]
        assert {int(box[4]) for box in found} == {k for k in range(5) if shown[k].any()}
        for k in range(5):
            # Boxes of a class cover its pixels, and together they reach exactly as far.
            of_class = [[int(v) for v in box[:4]] for box in found if box[4] == k]
            covered = torch.zeros(64, 64, dtype=torch.bool)
            for x1, y1, x2, y2 in of_class:
                covered[y1:y2, x1:x2] = True
                assert all(edge.any() for edge in (shown[k][y1, x1:x2], shown[k][y2 - 1, x1:x2]))
                assert all(edge.any() for edge in (shown[k][y1:y2, x1], shown[k][y1:y2, x2 - 1]))
            assert not (shown[k] & ~covered).any()


def test_a_scene_has_one_to_four_items_of_all_classes_alike(by_task: dict[str, Splits]) -> None:
    boxes = torch.cat([by_task["detection"].train.y, by_task["detection"].test.y])
    there = present(boxes)
    numbers = there.sum(1).bincount(minlength=5)
    assert numbers[0] == 0
    assert bool((numbers[1:] > 0.15 * len(boxes)).all())
    classes = boxes[..., 4][there].long().bincount(minlength=5) / there.sum()
    assert torch.allclose(classes, torch.tensor(0.2), atol=0.06)


@pytest.mark.parametrize(("part", "height"), [("train", 28), ("test", 14)])
def test_items_are_images_of_their_class_and_of_the_parts_own_file(job: Recording, part: str, height: int) -> None:
    data = getattr(load(job, train_rows=120, test_rows=120), part)
    alone = data.y[present(data.y).sum(1) == 1][:, 0]
    assert len(alone) > 15
    for x1, y1, x2, y2, k in alone.tolist():
        # An item is resized by one factor across and down, which its frame tells to a pixel; 20 to 32 pixels are 28.
        expected = WIDTHS[(0, 1, 7, 8, 9)[int(k)]]  # Fashion-MNIST: T-shirt, trouser, sneaker, bag, ankle boot
        assert 20 / 28 * height - 2 <= y2 - y1 <= 32 / 28 * height + 2
        assert abs((x2 - x1) - (y2 - y1) * expected / height) <= 4
    assert set(alone[:, 4].tolist()) == {0, 1, 2, 3, 4}


def test_no_two_frames_share_more_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    _, scenes = frames_of([*solid(), drawn(2, 20)[:3]], 200, monkeypatch)
    shares = []
    for frames in scenes:
        pixels = []
        for left, top, width, height in frames:
            assert left >= 0
            assert top >= 0
            assert left + width <= 64
            assert top + height <= 64
            pixels.append({(i, j) for i in range(top, top + height) for j in range(left, left + width)})
        for a in range(len(pixels)):
            shares += [len(pixels[a] & pixels[b]) / min(len(pixels[a]), len(pixels[b])) for b in range(a)]
    assert len(scenes) == 200
    assert 0.10 < max(shares) <= 0.15
    assert max(map(len, scenes)) == 4


def test_a_frame_may_lie_wherever_it_shares_little_enough_and_nowhere_else() -> None:
    taken = [(1, 2, 5, 6), (8, 7, 4, 4)]
    allowed = set()
    for left in range(12 - 4 + 1):
        for top in range(12 - 5 + 1):
            frame = {(x, y) for x in range(left, left + 4) for y in range(top, top + 5)}
            others = [{(x, y) for x in range(a, a + w) for y in range(b, b + h)} for a, b, w, h in taken]
            if all(len(frame & other) <= 0.15 * min(20, len(other)) for other in others):
                allowed.add((left, top, 4, 5))
    rng = np.random.default_rng(0)
    found = {composing.place(4, 5, taken, 12, rng) for _ in range(2000)}
    assert found == allowed
    assert 5 < len(allowed) < 40


def test_an_item_that_fits_nowhere_is_left_out() -> None:
    rng = np.random.default_rng(0)
    assert composing.place(8, 8, [(2, 2, 8, 8)], 12, rng) is None
    assert composing.place(12, 12, [], 12, rng) == (0, 0, 12, 12)


def test_a_later_item_covers_an_earlier_one(monkeypatch: pytest.MonkeyPatch) -> None:
    scenes, frames = frames_of(solid(), 100, monkeypatch)
    covered = 0
    for items, placed in zip(scenes.items, frames, strict=True):
        expected = np.zeros((64, 64), np.uint8)
        for k, (left, top, width, height) in enumerate(placed):
            covered += int((expected[top : top + height, left : left + width] > 0).sum())
            expected[top : top + height, left : left + width] = k + 1
        assert np.array_equal(items, expected)
    assert covered > 100


def test_an_item_has_one_bright_colour_times_its_grey_and_the_canvas_is_dim(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(composing, "NOISE", 0.0)
    ramp = np.tile(np.linspace(60, 255, 28).astype(np.uint8), (1, 28, 1))
    scenes = composing.compose([ramp], 40, 64, np.random.default_rng(1))
    for x, items in zip(scenes.x, scenes.items, strict=True):
        for k in range(1, int(items.max()) + 1):
            shown = x[:, items == k]
            strongest = shown.max(0)
            assert 0.8 * 0.95 < strongest.max() <= 1
            assert strongest.min() < 0.4
            assert np.ptp(shown / strongest, axis=1).max() < 1e-5  # one hue
        ground = x[:, items == 0]
        assert ground.max() <= 0.3 + 0.1 / np.sqrt(2) + 1e-6
        assert np.ptp(ground, axis=1).max() <= 0.1 * np.sqrt(2) + 1e-6


def test_noise_lies_over_the_whole_scene(monkeypatch: pytest.MonkeyPatch) -> None:
    noisy = composing.compose(solid(), 1, 64, np.random.default_rng(4))
    monkeypatch.setattr(composing, "NOISE", 0.0)
    clean = composing.compose(solid(), 1, 64, np.random.default_rng(4))
    noise = noisy.x - clean.x
    free = (clean.x > 0.25) & (clean.x < 0.75)  # where nothing is clipped
    assert noise[free].std() == pytest.approx(0.06, rel=0.1)
    assert all((noise[0][:, clean.items[0] == k] != 0).mean() > 0.3 for k in range(int(clean.items.max()) + 1))


def test_colours_say_nothing_about_the_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(composing, "NOISE", 0.0)
    scenes = composing.compose(solid(), 500, 64, np.random.default_rng(2))
    colours: list[list[Array]] = [[], [], []]
    for x, items, classes in zip(scenes.x, scenes.items, scenes.classes, strict=True):
        for k in range(int(items.max())):
            colours[classes[k]].append(x[:, items == k + 1][:, 0])
    tables = [np.stack(found) for found in colours]
    for channel in range(3):
        for a in range(3):
            one, other = tables[a][:, channel], tables[a - 1][:, channel]
            grid = np.sort(np.concatenate([one, other]))
            apart = [np.searchsorted(np.sort(v), grid, "right") / len(v) for v in (one, other)]
            distance = np.abs(apart[0] - apart[1]).max()  # Kolmogorov and Smirnov's
            assert distance < 1.95 * np.sqrt(1 / len(one) + 1 / len(other))


@pytest.mark.parametrize("side", [20, 28, 32])
def test_an_item_is_cut_to_its_bright_pixels(side: int) -> None:
    image = np.zeros((28, 28), np.uint8)
    image[6:20, 10:15] = 200
    image[2, 2] = 24  # not bright enough to belong to it
    found = composing.cut(image, side)
    assert abs(found.shape[0] - 14 * side / 28) <= 2
    assert abs(found.shape[1] - 5 * side / 28) <= 2
    shown = found > 24
    assert all(edge.any() for edge in (shown[0], shown[-1], shown[:, 0], shown[:, -1]))


def test_an_item_without_a_bright_pixel_shows_nothing_and_breaks_nothing() -> None:
    assert composing.cut(np.full((28, 28), 5, np.uint8), 20).shape == (20, 20)
    scenes = composing.compose([np.full((1, 28, 28), 5, np.uint8)], 5, 64, np.random.default_rng(0))
    assert not scenes.masks().any()
    assert bool(scenes.boxes().isnan().all())
    assert not scenes.labels(1).any()


def test_test_scenes_do_not_depend_on_the_number_of_training_scenes(job: Recording) -> None:
    few, many = load(job, train_rows=9), load(job)
    assert few.test.digest() == many.test.digest()
    assert torch.equal(few.train.x, many.train.x[:9])
    other = load(job, seed=1)
    assert not any(torch.equal(a, b) for a in few.train.x for b in other.train.x)


def test_larger_scenes_have_larger_items(job: Recording) -> None:
    heights = []
    for size in (48, 96):
        y = load(job, size=size).train.y
        heights.append(float((y[..., 3] - y[..., 1]).nanmean()))
    assert heights[1] == pytest.approx(2 * heights[0], rel=0.1)


def test_raw_files_are_read_as_packed_ones_are_and_nothing_is_written(job: Recording) -> None:
    folder = Path(job.root) / FOLDER
    digests = [load(job).train.digest()]
    assert sorted(job.read) == sorted(f"{FOLDER}/{stem}.gz" for stem in STEMS)
    before = sorted(Path(job.root).rglob("*"))
    for stem in STEMS:
        (folder / stem).write_bytes(gzip.decompress((folder / f"{stem}.gz").read_bytes()))
        (folder / f"{stem}.gz").write_bytes(b"the raw one wins")
    job.read.clear()
    digests.append(load(job).train.digest())
    assert sorted(job.read) == sorted(f"{FOLDER}/{stem}" for stem in STEMS)
    assert digests[0] == digests[1]
    assert sorted(Path(job.root).rglob("*")) == sorted([*before, *(folder / stem for stem in STEMS)])


@pytest.mark.parametrize("stem", STEMS)
def test_a_missing_file_is_one_line_that_says_how_to_get_it(job: Recording, stem: str) -> None:
    (Path(job.root) / FOLDER / f"{stem}.gz").unlink()
    with pytest.raises(DataError) as caught:
        load(job)
    assert (caught.value.code, caught.value.where) == ("missing-file", f"{FOLDER}/{stem}")
    assert "unlearnbench data fetch fashion-mnist" in caught.value.hint


def rewritten(array: Array) -> Callable[[bytes], bytes]:
    return lambda _: gzip.compress(packed(array))


@pytest.mark.parametrize(
    ("stem", "change", "code", "words"),
    [
        (STEMS[0], lambda old: old[: len(old) // 2], "corrupt-file", "cannot be unpacked"),
        (STEMS[0], lambda _: b"no gzip", "corrupt-file", "cannot be unpacked"),
        (STEMS[2], lambda old: gzip.compress(gzip.decompress(old)[:-1]), "corrupt-file", "its header promises"),
        (STEMS[2], lambda old: gzip.compress(gzip.decompress(old) + b"x"), "corrupt-file", "its header promises"),
        (STEMS[1], lambda _: gzip.compress(b""), "corrupt-file", "is not an idx file of bytes with 1 dimensions"),
        (STEMS[1], rewritten(drawn(1, 28)), "corrupt-file", "is not an idx file of bytes with 1 dimensions"),
        (STEMS[3], rewritten(np.arange(40) % 10), "corrupt-file", "has 40 labels for 50 images"),
        (STEMS[0], rewritten(np.zeros((120, 20, 28))), "corrupt-file", "images of 20x28 pixels, not 28x28"),
        (STEMS[3], rewritten(np.arange(50) % 7), "bad-data", "has no image of sneaker, bag, boot"),
        (STEMS[2], rewritten(np.zeros((50, 28, 28))), "bad-data", "has no image of tshirt, trouser, sneaker, bag"),
    ],
)
def test_damaged_files_are_one_line(
    job: Recording, stem: str, change: Callable[[bytes], bytes], code: str, words: str
) -> None:
    path = Path(job.root) / FOLDER / f"{stem}.gz"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DataError) as caught:
        load(job)
    assert caught.value.code == code
    assert words in str(caught.value)
    assert FOLDER in caught.value.where


def test_a_file_that_unpacks_without_bound_is_refused(job: Recording, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idx, "MOST_BYTES", 1000)
    with pytest.raises(DataError, match="has more than 1000 bytes"):
        load(job)
