"""COCO on small files that the tests write in its layout: JSON and images."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision.datasets as tv
from PIL import Image

from unlearnbench.api import DataError, UsageError
from unlearnbench.api.runtime import TASKS, present
from unlearnbench_torchvision.coco import CocoDetection
from unlearnbench_torchvision.params import CocoParams

CATEGORIES = [{"id": 18, "name": "dog"}, {"id": 1, "name": "person"}, {"id": 90, "name": "toothbrush"}]
SIZES = {139: (60, 40), 25: (33, 47), 9: (20, 20)}  # by number, not in order


def box(image: int, category: int, *bbox: float, **more: Any) -> dict[str, Any]:
    outline = [[0.0, 0.0, 1.0, 1.0, 2.0, 0.0]]
    return {"image_id": image, "category_id": category, "bbox": list(bbox), "segmentation": outline, **more}


TRAIN: dict[str, Any] = {
    "info": {"year": 2017},
    "categories": CATEGORIES,
    "images": [{"id": k, "file_name": f"{k:012d}.jpg", "width": w, "height": h} for k, (w, h) in SIZES.items()],
    "annotations": [
        box(139, 1, 15, 10, 15, 10),
        box(139, 90, 0, 0, 60, 40, iscrowd=0),
        box(139, 18, 0, 0, 30, 30, iscrowd=1),
        box(25, 18, 0, 0, 33.2, 47),
    ],
}
VAL = {**TRAIN, "images": [{"id": 7, "file_name": "sub/7.png"}], "annotations": [box(7, 18, 4, 4, 4, 4)]}


def write(root: Path, part: str, content: dict[str, Any]) -> None:
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    annotations = [{"id": k, **one} for k, one in enumerate(content["annotations"])]
    (root / f"annotations/instances_{part}.json").write_text(json.dumps({**content, "annotations": annotations}))
    for image in content["images"]:
        path = root / part / image["file_name"]
        path.parent.mkdir(parents=True, exist_ok=True)
        width, height = SIZES.get(image["id"], (16, 16))
        Image.fromarray(np.full((height, width), image["id"], dtype=np.uint8)).save(path)  # grey: COCO has such


@pytest.fixture
def root(job: Any) -> Path:
    found = Path(job.root) / "coco"
    write(found, "train2017", TRAIN)
    write(found, "val2017", VAL)
    return found


def load(job: Any, **params: Any) -> Any:
    return CocoDetection(CocoParams(**{"rows": None, "image_size": 20, "normalise": False, **params})).load(job)


def test_boxes_are_corners_scaled_to_the_square_and_crowds_are_left_out(job: Any, root: Path) -> None:
    found = load(job)
    assert found.train.outputs == ("person", "dog", "toothbrush")
    # Rows in the order of the numbers 9, 25, 139.
    assert (found.train.x[:, 0, 0, 0] * 255).round().tolist() == [9, 25, 139]
    assert found.train.ids.tolist() == [0, 1, 2]
    assert found.test.ids.tolist() == [3]
    assert found.train.x.shape == (3, 3, 20, 20)
    # 60x40 becomes 20x20: columns divided by 3, rows by 2. The dog is a crowd there.
    expected = torch.tensor([[5.0, 5.0, 10.0, 10.0, 0], [0.0, 0.0, 20.0, 20.0, 2]])
    assert torch.allclose(found.train.y[2], expected)
    # 33.2 columns are clipped to 33; an image without objects is kept.
    assert found.train.y[1][0].tolist() == [0.0, 0.0, 20.0, 20.0, 1.0]
    assert found.train.y[1][1].isnan().all()
    assert found.train.y[0].isnan().all()
    assert torch.allclose(found.test.y[0], torch.tensor([[5.0, 5.0, 10.0, 10.0, 1]]))
    for part in (found.train, found.test):
        assert TASKS["detection"].find_fault(part.x, part.y, len(part.outputs)) is None


def test_rows_and_boxes_are_those_of_torchvision(job: Any, root: Path) -> None:
    file = str(root / "annotations/instances_train2017.json")
    with contextlib.redirect_stdout(None):  # pycocotools prints
        theirs = tv.CocoDetection(str(root / "train2017"), file)
    names = {one["id"]: one["name"] for one in CATEGORIES}
    ours = load(job).train
    assert len(theirs) == len(ours)
    for i in range(len(theirs)):
        image, annotations = theirs[i]
        width, height = image.size
        expected = [
            [x * 20 / width, y * 20 / height, (x + w) * 20 / width, (y + h) * 20 / height, names[one["category_id"]]]
            for one in annotations
            if not one.get("iscrowd")
            for x, y, w, h in [one["bbox"]]
        ]
        found = ours.y[i][present(ours.y[i])].tolist()
        assert [ours.outputs[int(row[4])] for row in found] == [row[4] for row in expected]
        for row, other in zip(found, expected, strict=True):
            assert row[:4] == pytest.approx([min(20, v) for v in other[:4]], rel=1e-5)


def test_nothing_is_printed(job: Any, root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load(job)
    assert capfd.readouterr() == ("", "")


def test_kept_categories_are_the_outputs_in_their_order(job: Any, root: Path) -> None:
    found = load(job, categories=("toothbrush", "person"))
    assert found.train.outputs == ("toothbrush", "person")
    assert found.train.y[2][:, 4].tolist() == [1.0, 0.0]
    assert found.train.y[1].isnan().all()  # the dog is none of them
    assert found.test.y.isnan().all()
    with pytest.raises(UsageError, match="did you mean person") as caught:
        load(job, categories=("persn",))
    assert caught.value.where == "coco-detection.categories"
    with pytest.raises(UsageError, match="twice"):
        load(job, categories=("dog", "dog"))


def test_images_without_a_kept_category_can_be_left_out_and_ids_stay(job: Any, root: Path) -> None:
    found = load(job, categories=("dog",), empty=False)
    assert found.train.ids.tolist() == [1]
    assert found.test.ids.tolist() == [3]
    assert (found.train.x[:, 0, 0, 0] * 255).round().tolist() == [25]
    with pytest.raises(DataError, match="no image shows an object") as caught:
        load(job, categories=("person",), empty=False)
    assert caught.value.where == "coco/annotations/instances_val2017.json"


def test_boxes_without_area_are_left_out(job: Any, root: Path) -> None:
    write(root, "train2017", {**TRAIN, "annotations": [box(9, 1, 20, 3, 0, 4), box(9, 1, 3, 20, 4, 0.0)]})
    assert load(job).train.y.isnan().all()


def change(**changes: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda content: {**content, **changes}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (change(annotations=[box(9, 1, 3, 3, -1, 2)]), "has no corners"),
        (change(annotations=[box(9, 1, 3, 3, float("nan"), 2)]), "has no corners"),
        (change(annotations=[box(9, 1, 30, 3, 4, 2)]), "lies beside its image of 20x20"),
        (change(annotations=[box(9, 1, 3, 3, 2)]), "not four numbers"),
        (change(annotations=[box(9, 1, "3", 3, 2, 2)]), "not four numbers"),  # type: ignore[arg-type]
        (change(annotations=[box(10, 1, 3, 3, 2, 2)]), "image 10, category 1"),
        (change(annotations=[box(9, 2, 3, 3, 2, 2)]), "image 9, category 2"),
        (change(annotations=[{}]), "image_id"),
        (change(annotations=[[]]), "not an annotation file of COCO"),
        (change(annotations=[box(True, 1, 3, 3, 2, 2)]), "not a whole number"),
        (change(categories=[*CATEGORIES, {"id": 3, "name": "dog"}]), "name of a category stands there twice"),
        (change(images=[*TRAIN["images"], TRAIN["images"][0]]), "stands there twice"),
        (change(images=[], annotations=[]), "no images"),
        (change(images=[{"id": 9, "file_name": 5}], annotations=[]), "not a text"),
        (change(images=[{"id": 9, "file_name": "a.jpg", "width": "x", "height": 3}], annotations=[]), "has the size"),
        (lambda content: [content], "it is no object"),
        (lambda content: {"images": []}, "categories"),
    ],
)
def test_a_file_that_cannot_be_right_is_refused(job: Any, root: Path, changed: Any, message: str) -> None:
    file = root / "annotations/instances_train2017.json"
    file.write_text(json.dumps(changed(TRAIN)))
    with pytest.raises(DataError, match=message) as caught:
        load(job)
    assert caught.value.code == "bad-annotations"


@pytest.mark.parametrize("content", [b"", b'{"images": [', b"\xff\xfe\x00", b"[" * 200_000])
def test_what_is_no_json_is_refused(job: Any, root: Path, content: bytes) -> None:
    (root / "annotations/instances_val2017.json").write_bytes(content)
    with pytest.raises(DataError) as caught:
        load(job)
    assert (caught.value.code, caught.value.where) == ("corrupt-file", "coco/annotations/instances_val2017.json")


def test_files_outside_their_folder_are_refused(job: Any, root: Path) -> None:
    for name in ("../val2017/sub/7.png", "/etc/hostname", "..\\a.jpg", ""):
        images = [{"id": 9, "file_name": name}]
        (root / "annotations/instances_train2017.json").write_text(
            json.dumps({**TRAIN, "images": images, "annotations": []})
        )
        with pytest.raises(DataError, match="outside its folder"):
            load(job)
    for key in ("folder", "train", "test"):
        with pytest.raises(UsageError, match="not below the data folder") as caught:
            load(job, **{key: "../elsewhere"})
        assert caught.value.where == f"coco-detection.{key}"


def test_other_categories_in_the_test_rows_are_refused(job: Any, root: Path) -> None:
    write(root, "val2017", {**VAL, "categories": [*CATEGORIES, {"id": 2, "name": "bicycle"}]})
    with pytest.raises(DataError, match="different categories"):
        load(job)


def test_an_image_of_another_size_than_annotated_is_refused(job: Any, root: Path) -> None:
    Image.new("RGB", (40, 60)).save(root / "train2017/000000000139.jpg")
    with pytest.raises(DataError, match="has 40x60 pixels, not 60x40 as annotated") as caught:
        load(job)
    assert caught.value.where == "coco/train2017/000000000139.jpg"


def test_damaged_and_missing_images_are_named(job: Any, root: Path) -> None:
    image = root / "train2017/000000000025.jpg"
    image.write_bytes(image.read_bytes()[:100])
    with pytest.raises(DataError) as caught:
        load(job)
    assert (caught.value.code, caught.value.where) == ("corrupt-file", "coco/train2017/000000000025.jpg")
    image.unlink()
    with pytest.raises(DataError) as caught:
        load(job)
    assert (caught.value.code, caught.value.where) == ("missing-file", "coco/train2017/000000000025.jpg")


def test_rows_are_drawn_by_seed(job: Any, root: Path) -> None:
    found = load(job, rows=2)
    assert len(found.train) == 2
    assert found.train.digest() == load(job, rows=2).train.digest()
    assert len({tuple(load(job, rows=2, split_seed=s).train.ids.tolist()) for s in range(12)}) == 3
    with pytest.raises(DataError, match="asks for 10000 of 3 rows") as caught:
        CocoDetection(CocoParams()).load(job)
    assert caught.value.where == "coco-detection.rows"


def test_files_of_ones_own_are_read_from_their_folder(job: Any) -> None:
    write(Path(job.root) / "mine", "a", TRAIN)
    write(Path(job.root) / "mine", "b", VAL)
    found = load(job, folder="mine", train="a", test="b")
    assert (len(found.train), len(found.test)) == (3, 1)
    assert all(name.startswith("mine/") for name in job.read)


def test_fetching_says_what_to_put_where(job: Any, downloads: list[str]) -> None:
    with pytest.raises(DataError, match=r"annotations/instances_train2017\.json") as caught:
        CocoDetection(CocoParams()).fetch(job)
    assert caught.value.code == "not-fetchable"
    with pytest.raises(DataError, match=r"put annotations/instances_train2017\.json .* val2017/ into coco") as caught:
        CocoDetection(CocoParams()).load(job)
    assert caught.value.code == "missing-file"
    assert downloads == []
