"""Nuclei: regions by brute force, the split, and files that are not what they should be."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from unlearnbench.api import DataError
from unlearnbench.api.runtime import TASKS, DataJob, Splits
from unlearnbench_scenes import nuclei
from unlearnbench_scenes.nuclei import FILE, OUTPUTS, Nuclei, regions
from unlearnbench_scenes.plugin import NucleiParams

Arrays = dict[str, Any]


def job_at(root: Path) -> DataJob:
    return DataJob(root=root, scratch=root / "scratch", file=lambda name: root / name)


def arrays(n: int = 10, side: int = 32) -> Arrays:
    rng = np.random.default_rng(3)
    instances = np.zeros((n, side, side), np.uint16)
    for row, found in enumerate(instances):
        found[4:18, 5:20] = row + 1
        found[18:30, 5:15] = row + 2  # touches the first one
    return {"images": rng.integers(0, 256, (n, side, side, 3)).astype(np.uint8), "instances": instances}


@pytest.fixture
def written(tmp_path: Path) -> Callable[[Arrays], DataJob]:
    def write(found: Arrays) -> DataJob:
        (tmp_path / FILE).parent.mkdir(exist_ok=True)
        np.savez_compressed(tmp_path / FILE, **found)
        return job_at(tmp_path)

    return write


@pytest.fixture(scope="module")
def real() -> DataJob:
    root = Path(os.environ.get("UNLEARNBENCH_DATA", Path(__file__).resolve().parents[3].parent / "shared" / "data"))
    if not (root / FILE).is_file():
        pytest.skip(f"no {FILE} below {root}; set UNLEARNBENCH_DATA")
    return job_at(root)


@pytest.fixture(scope="module")
def loaded(real: DataJob) -> Splits:
    return Nuclei(NucleiParams()).load(real)


@pytest.mark.parametrize("border", [1, 2, 3, 5, 40])
def test_regions_are_those_of_comparing_each_pixel_with_each_other(border: int) -> None:
    rng = np.random.default_rng(border)
    blocks = rng.integers(0, 4, (4, 5))
    instances = np.kron(blocks, np.ones((6, 5), int))[:21, :23].astype(np.uint16)
    height, width = instances.shape
    expected = np.zeros(instances.shape, int)
    for i in range(height):
        for j in range(width):
            if instances[i, j]:
                near = any(
                    instances[a, b] != instances[i, j] and (a - i) ** 2 + (b - j) ** 2 <= border**2
                    for a in range(height)
                    for b in range(width)
                )
                expected[i, j] = 2 if near else 1
    assert np.array_equal(regions(instances, border), expected)
    assert set(np.unique(expected)) == ({0, 2} if border == 40 else {0, 1, 2})


def test_nuclei_that_touch_have_a_border_between_them_and_the_images_edge_is_none() -> None:
    instances = np.zeros((8, 12), np.uint16)
    instances[:, :6], instances[:, 6:] = 1, 2
    found = regions(instances, 2)
    assert np.array_equal(found, np.tile([1, 1, 1, 1, 2, 2, 2, 2, 1, 1, 1, 1], (8, 1)))


def test_one_nucleus_over_the_whole_image_is_interior() -> None:
    assert (regions(np.full((5, 6), 9, np.uint16), 3) == 1).all()


def test_images_keep_their_masks_when_they_are_split(written: Callable[[Arrays], DataJob]) -> None:
    found = arrays()
    splits = Nuclei(NucleiParams(size=32, border=2, test_fraction=0.3)).load(written(found))
    assert (len(splits.train), len(splits.test)) == (7, 3)
    assert sorted(torch.cat([splits.train.ids, splits.test.ids]).tolist()) == list(range(10))
    for part in (splits.train, splits.test):
        assert part.outputs == OUTPUTS == ("background", "interior", "border")
        for x, y, row in zip(part.x, part.y, part.ids.tolist(), strict=True):
            assert np.array_equal((x.numpy() * 255).round().transpose(1, 2, 0), found["images"][row])
            assert np.array_equal(y.numpy(), regions(found["instances"][row], 2))


def test_the_border_is_cut_before_resizing(written: Callable[[Arrays], DataJob]) -> None:
    found = arrays()
    splits = Nuclei(NucleiParams(size=16, border=2)).load(written(found))
    row = int(splits.test.ids[0])
    whole = regions(found["instances"][row], 2)
    assert np.array_equal(splits.test.y[0].numpy(), whole[1::2, 1::2])  # nearest: the pixel at each block's centre


def test_the_split_depends_on_its_seed_alone(written: Callable[[Arrays], DataJob]) -> None:
    job = written(arrays(20))
    first, again, other, coarse = (
        Nuclei(NucleiParams(**given)).load(job).test.ids.tolist()
        for given in ({"size": 16}, {"size": 16}, {"size": 16, "split_seed": 1}, {"size": 32})
    )
    assert first == again == coarse == [2, 4, 9, 16]
    assert other != first


@pytest.mark.parametrize(("fraction", "tested"), [(0.001, 1), (0.5, 5), (0.999, 9)])
def test_neither_part_is_ever_empty(written: Callable[[Arrays], DataJob], fraction: float, tested: int) -> None:
    splits = Nuclei(NucleiParams(size=16, test_fraction=fraction)).load(written(arrays()))
    assert (len(splits.train), len(splits.test)) == (10 - tested, tested)


def test_the_real_images_are_all_there_and_the_host_finds_no_fault(loaded: Splits) -> None:
    assert (len(loaded.train), len(loaded.test)) == (267, 67)
    for part in (loaded.train, loaded.test):
        assert part.x.shape[1:] == (3, 128, 128)
        assert TASKS["segmentation"].find_fault(part.x, part.y, 3) is None
        assert part.y.unique().tolist() == [0, 1, 2]


def test_real_nuclei_are_brighter_than_what_is_around_them(loaded: Splits) -> None:
    # All images are of fluorescence; a mask that lost its image would not follow the light.
    brighter = [
        float(x.mean(0)[y > 0].mean()) > float(x.mean(0)[y == 0].mean())
        for x, y in zip(loaded.train.x, loaded.train.y, strict=True)
    ]
    assert np.mean(brighter) > 0.98


def change(**columns: Any) -> Callable[[], Arrays]:
    return lambda: {**arrays(), **columns}


@pytest.mark.parametrize(
    ("found", "code", "words"),
    [
        (lambda: {"images": arrays()["images"]}, "missing-column", "has no array 'instances'"),
        (change(instances=arrays(9)["instances"]), "bad-data", "instances are uint16 [9, 32, 32]"),
        (change(instances=arrays()["instances"].astype(float)), "bad-data", "instances are float64"),
        (change(instances=-arrays()["instances"].astype(int)), "bad-data", "negative"),
        (change(images=arrays()["images"][..., :1]), "bad-data", "images are uint8 [10, 32, 32, 1]"),
        (change(images=arrays()["images"] / 255), "bad-data", "images are float64"),
        (lambda: arrays(1), "bad-data", "fewer than two images"),
        (change(images=np.array([{"a": 1}, None], object)), "corrupt-file", "allow_pickle"),
    ],
)
def test_arrays_that_are_not_what_they_should_be_are_one_line(
    written: Callable[[Arrays], DataJob], found: Callable[[], Arrays], code: str, words: str
) -> None:
    with pytest.raises(DataError) as caught:
        Nuclei(NucleiParams()).load(written(found()))
    assert (caught.value.code, caught.value.where) == (code, FILE)
    assert words in str(caught.value)
    assert "BBBC038" in caught.value.hint


def test_a_missing_or_damaged_file_is_one_line(tmp_path: Path, written: Callable[[Arrays], DataJob]) -> None:
    with pytest.raises(DataError, match="missing-file") as caught:
        Nuclei(NucleiParams()).load(job_at(tmp_path))
    assert FILE in str(caught.value)
    job = written(arrays())
    whole = (tmp_path / FILE).read_bytes()
    middle = len(whole) // 2
    for damaged in (b"", b"no archive", whole[:middle], whole[:middle] + b"XXXXXXXX" + whole[middle + 8 :]):
        (tmp_path / FILE).write_bytes(damaged)
        with pytest.raises(DataError, match="corrupt-file"):
            Nuclei(NucleiParams()).load(job)


def test_an_archive_that_unpacks_without_bound_is_refused(
    written: Callable[[Arrays], DataJob], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = written(arrays())
    monkeypatch.setattr(nuclei, "MOST_BYTES", 50_000)
    monkeypatch.setattr(np, "load", lambda *_, **__: pytest.fail("it was unpacked"))
    with pytest.raises(DataError, match="unpacks to more than 50000 bytes"):
        Nuclei(NucleiParams()).load(job)
