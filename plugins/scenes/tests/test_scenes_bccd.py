"""BCCD: the real boxes by another reader, and archives that are not what they should be."""

from __future__ import annotations

import io
import os
import re
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from unlearnbench.api import DataError
from unlearnbench.api.runtime import TASKS, DataJob, Splits, present
from unlearnbench_scenes import voc
from unlearnbench_scenes.bccd import FILE, NAMES, Bccd
from unlearnbench_scenes.plugin import BccdParams

Files = dict[str, bytes]
LISTS = "BCCD/ImageSets/Main"
ANNOTATIONS = "BCCD/Annotations"
IMAGES = "BCCD/JPEGImages"


def job_at(root: Path) -> DataJob:
    return DataJob(root=root, scratch=root / "scratch", file=lambda name: root / name)


def annotation(*boxes: tuple[Any, ...], width: int = 64, height: int = 48, head: str = "") -> bytes:
    things = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax>"
        "</bndbox></object>"
        for name, x1, y1, x2, y2 in boxes
    )
    size = f"<size><width>{width}</width><height>{height}</height></size>"
    return f"{head}<annotation>{size}{things}</annotation>".encode()


def jpeg(value: int, width: int = 64, height: int = 48) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width, height), (value, 255 - value, 128)).save(out, "JPEG", quality=95)
    return out.getvalue()


def usual() -> Files:
    boxes: dict[str, tuple[tuple[Any, ...], ...]] = {
        "a": (("RBC", 1, 1, 33, 25), ("WBC", 10, 12, 64, 48)),
        "b": (("RBC", 9, 9, 9, 9), ("Platelets", 8, 8, 12, 16)),  # a box without area
        "c": (),  # an image without any box
        "d": (("RBC", -5, 40, 20, 60),),  # a box over the image's edge
        "e": (("WBC", 7, 7, 7, 20),),  # nothing but a box without area
    }
    files = {f"{ANNOTATIONS}/{stem}.xml": annotation(*found) for stem, found in boxes.items()}
    files |= {f"{IMAGES}/{stem}.jpg": jpeg(40 * i) for i, stem in enumerate("abcde")}
    return files | {f"{LISTS}/train.txt": b"b\na\n", f"{LISTS}/val.txt": b"c\n", f"{LISTS}/test.txt": b"d\ne\n"}


def write(root: Path, files: Files, links: dict[str, str] | None = None) -> DataJob:
    (root / FILE).parent.mkdir(exist_ok=True)
    with tarfile.open(root / FILE, "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for name, target in (links or {}).items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)
    return job_at(root)


def load(job: DataJob, task: str = "detection", width: int = 32, height: int = 24) -> Splits:
    return Bccd(BccdParams(task=task, width=width, height=height)).load(job)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def real() -> DataJob:
    root = Path(os.environ.get("UNLEARNBENCH_DATA", Path(__file__).resolve().parents[3].parent / "shared" / "data"))
    if not (root / FILE).is_file():
        pytest.skip(f"no {FILE} below {root}; set UNLEARNBENCH_DATA")
    return job_at(root)


@pytest.fixture(scope="module")
def by_task(real: DataJob) -> dict[str, Splits]:
    return {task: load(real, task, 160, 120) for task in ("detection", "multi-label")}


def test_the_real_images_are_those_of_the_official_lists(by_task: dict[str, Splits]) -> None:
    splits = by_task["detection"]
    assert (len(splits.train), len(splits.test)) == (205 + 87, 72)
    assert torch.equal(torch.cat([splits.train.ids, splits.test.ids]), torch.arange(364))
    for task, found in by_task.items():
        for part in (found.train, found.test):
            assert part.x.shape[1:] == (3, 120, 160)
            assert part.outputs == NAMES == ("RBC", "WBC", "Platelets")
            assert TASKS[task].find_fault(part.x, part.y, 3) is None


def test_the_real_boxes_are_all_there_but_two_without_area(real: DataJob, by_task: dict[str, Splits]) -> None:
    # Another reader: texts between tags, by the lists, scaled by hand.
    expected: list[list[list[float]]] = []
    pattern = "<name>(.*?)</name>.*?" + "".join(
        f"<{side}>(.*?)</{side}>.*?" for side in ("xmin", "ymin", "xmax", "ymax")
    )
    with tarfile.open(Path(real.root) / FILE) as archive:

        def text(name: str) -> str:
            found = archive.extractfile(name)
            assert found is not None
            return found.read().decode()

        for stem in " ".join(text(f"{LISTS}/{split}.txt") for split in ("train", "val", "test")).split():
            found = re.findall(f"<object>.*?{pattern}</object>", text(f"{ANNOTATIONS}/{stem}.xml"), re.DOTALL)
            expected.append([[int(v) / 4 for v in corners] + [NAMES.index(name)] for name, *corners in found])
    areas = [(x2 - x1) * (y2 - y1) for image in expected for x1, y1, x2, y2, _ in image]
    assert (len(areas), areas.count(0)) == (4888, 2)
    y = torch.cat([by_task["detection"].train.y, by_task["detection"].test.y])
    for image, wanted in zip(y, expected, strict=True):
        assert image[present(image)].tolist() == [box for box in wanted if box[2] > box[0] and box[3] > box[1]]
    counts = y[..., 4][present(y)].long().bincount().tolist()
    assert counts == [4153, 372, 361]


def test_labels_say_which_cells_a_real_image_has_a_box_of(by_task: dict[str, Splits]) -> None:
    both = zip(
        torch.cat([by_task["detection"].train.y, by_task["detection"].test.y]),
        torch.cat([by_task["multi-label"].train.y, by_task["multi-label"].test.y]),
        strict=True,
    )
    totals = torch.zeros(3)
    for boxes, labels in both:
        assert labels.tolist() == [float(bool((boxes[:, 4] == k).any())) for k in range(3)]
        totals += labels
    assert totals.tolist() == [364 - 15, 358, 201]
    assert torch.equal(by_task["detection"].train.x, by_task["multi-label"].train.x)


def test_real_white_cells_are_where_their_boxes_are(by_task: dict[str, Splits]) -> None:
    # Nuclei of white cells are dyed violet: less green than red inside their boxes than in the whole image.
    train, agree = by_task["detection"].train, []
    for x, y in zip(train.x, train.y, strict=True):
        violet = x[0] + x[2] - 2 * x[1]
        for x1, y1, x2, y2, k in y[present(y)].tolist():
            if k == 1:
                agree.append(bool(violet[int(y1) : int(y2) + 1, int(x1) : int(x2) + 1].mean() > violet.mean()))
    assert np.mean(agree) > 0.97


def test_boxes_are_scaled_clipped_and_dropped_without_area(tmp_path: Path) -> None:
    splits = load(write(tmp_path, usual()))
    found = [image[present(image)].tolist() for part in (splits.train, splits.test) for image in part.y]
    assert found == [
        [[4.0, 4.0, 6.0, 8.0, 2.0]],  # b stands before a in the list
        [[0.5, 0.5, 16.5, 12.5, 0.0], [5.0, 6.0, 32.0, 24.0, 1.0]],
        [],
        [[0.0, 20.0, 10.0, 24.0, 0.0]],
        [],
    ]
    assert splits.train.y.shape[1:] == splits.test.y.shape[1:] == (2, 5)
    assert TASKS["detection"].find_fault(splits.test.x, splits.test.y, 3) is None
    assert bool(TASKS["detection"].annotated(splits.train.y).all())


def test_boxes_are_clipped_on_all_four_sides(tmp_path: Path) -> None:
    write(tmp_path, {"a.xml": annotation(("RBC", -5, -6, 70, 50), ("WBC", 64, 1, 70, 9))})
    with voc.Tar(tmp_path / FILE, FILE, "") as archive:
        assert voc.read_boxes(archive, "a.xml", (64, 48)) == [("RBC", 0, 0, 64, 48)]


def test_each_row_keeps_its_own_image(tmp_path: Path) -> None:
    splits = load(write(tmp_path, usual()))
    red = torch.cat([splits.train.x, splits.test.x])[:, 0].mean((1, 2)) * 255
    assert torch.allclose(red, torch.tensor([40.0, 0, 80, 120, 160]), atol=3)
    assert splits.train.x.shape == (3, 3, 24, 32)


def test_labels_of_boxes_without_area_are_absent(tmp_path: Path) -> None:
    splits = load(write(tmp_path, usual()), "multi-label")
    assert splits.train.y.tolist() == [[0, 0, 1], [1, 1, 0], [0, 0, 0]]
    assert splits.test.y.tolist() == [[1, 0, 0], [0, 0, 0]]
    assert TASKS["multi-label"].find_fault(splits.train.x, splits.train.y, 3) is None


def test_width_and_height_are_scaled_apart(tmp_path: Path) -> None:
    splits = load(write(tmp_path, usual()), width=128, height=24)
    assert splits.train.y[1, 1].tolist() == [20, 6, 128, 24, 1]


def test_a_box_at_the_edge_stays_inside_whatever_the_scale(tmp_path: Path) -> None:
    edge = annotation(("RBC", 0, 0, 64, 48))
    files = {**usual(), f"{ANNOTATIONS}/a.xml": edge}
    for width in range(17, 80):
        splits = load(write(tmp_path, files), width=width, height=101 - width)
        assert TASKS["detection"].find_fault(splits.train.x, splits.train.y, 3) is None


def test_nothing_of_the_archive_is_written(tmp_path: Path) -> None:
    job = write(tmp_path, usual())
    load(job)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["bccd-voc.tar"]


def put(name: str, content: bytes) -> Callable[[Files], Files]:
    return lambda files: {**files, name: content}


def without(name: str) -> Callable[[Files], Files]:
    return lambda files: {other: content for other, content in files.items() if other != name}


def boxed(*box: Any) -> Callable[[Files], Files]:
    return put(f"{ANNOTATIONS}/a.xml", annotation(("RBC", 1, 1, 4, 4), box))


LAUGHS = "<!DOCTYPE lolz [<!ENTITY a 'ha'><!ENTITY b '&a;&a;&a;'>]>"


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (boxed("RBC", 70, 1, 80, 9), "bad-annotations", "the box (70, 1, 80, 9) cannot be of an image of 64x48"),
        (boxed("RBC", 1, -9, 8, -1), "bad-annotations", "cannot be of an image"),
        (boxed("RBC", 9, 1, 3, 5), "bad-annotations", "the box (9, 1, 3, 5)"),
        (boxed("Basophil", 1, 1, 3, 5), "bad-annotations", "a box is of 'Basophil', which is none of RBC"),
        (boxed("RBC", "nan", 1, 3, 5), "corrupt-file", "bndbox/xmin is 'nan', not a number"),
        (boxed("RBC", 1, 1, "inf", 5), "corrupt-file", "bndbox/xmax is 'inf', not a number"),
        (boxed("RBC", 1, 1, 3, ""), "corrupt-file", "bndbox/ymax is '', not a number"),
        (put(f"{ANNOTATIONS}/a.xml", b"<annotation>"), "corrupt-file", "is not an XML document"),
        (put(f"{ANNOTATIONS}/a.xml", b"<annotation/>"), "corrupt-file", "size/width is None"),
        (put(f"{ANNOTATIONS}/a.xml", annotation(head=LAUGHS)), "corrupt-file", "declares a document type"),
        (
            put(f"{ANNOTATIONS}/a.xml", annotation(head=LAUGHS).decode().encode("utf-16")),
            "corrupt-file",
            "is not UTF-8",
        ),
        (put(f"{ANNOTATIONS}/a.xml", annotation(width=65)), "corrupt-file", "of 65x48 pixels, but it has 64x48"),
        (put(f"{IMAGES}/a.jpg", b"no image"), "corrupt-file", "cannot be decoded"),
        (put(f"{IMAGES}/a.jpg", jpeg(3)[:300]), "corrupt-file", "cannot be decoded"),
        (without(f"{IMAGES}/c.jpg"), "missing-file", f"has no file {IMAGES}/c.jpg"),
        (without(f"{ANNOTATIONS}/d.xml"), "missing-file", f"has no file {ANNOTATIONS}/d.xml"),
        (without(f"{LISTS}/val.txt"), "missing-file", f"has no file {LISTS}/val.txt"),
        (put(f"{LISTS}/test.txt", b"d\na\n"), "corrupt-file", "an image stands in the lists twice"),
        (put(f"{LISTS}/test.txt", b"\n"), "corrupt-file", "a list is empty"),
        (put(f"{LISTS}/test.txt", b"../../etc/passwd"), "missing-file", "has no file BCCD/JPEGImages/../../etc"),
    ],
)
def test_a_damaged_archive_is_one_line(tmp_path: Path, change: Callable[[Files], Files], code: str, words: str) -> None:
    with pytest.raises(DataError) as caught:
        load(write(tmp_path, change(usual())))
    assert caught.value.code == code
    assert words in str(caught.value)
    assert FILE in caught.value.where


def test_an_encoding_in_which_a_document_type_hides_is_not_believed(tmp_path: Path) -> None:
    # In UTF-7 this text is plain ASCII without any "<!DOCTYPE"; a parser that believed it would see one.
    hidden = b'<?xml version="1.0" encoding="utf-7"?>+ADwAIQ-DOCTYPE a+AD4-' + annotation()
    with pytest.raises(DataError, match="is not an XML document"):
        load(write(tmp_path, {**usual(), f"{ANNOTATIONS}/a.xml": hidden}))


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.xml").write_bytes(annotation())
    name = f"{ANNOTATIONS}/a.xml"
    for target in (str(tmp_path / "secret.xml"), f"{ANNOTATIONS}/b.xml"):
        with pytest.raises(DataError, match=f"has no file {name}"):
            load(write(tmp_path, without(name)(usual()), {name: target}))


def test_a_missing_or_broken_archive_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="missing-file") as caught:
        load(job_at(tmp_path))
    assert FILE in str(caught.value)
    assert "Shenggan/BCCD_Dataset" in caught.value.hint
    job = write(tmp_path, usual())
    whole = (tmp_path / FILE).read_bytes()
    for damaged in (b"", b"no archive", whole[:5000], b"\x1f\x8b" + whole):
        (tmp_path / FILE).write_bytes(damaged)
        with pytest.raises(DataError, match=r"corrupt-file|missing-file"):
            load(job)


@pytest.mark.parametrize(
    ("limit", "value", "words"),
    [
        ("MOST_BYTES", 500, "bytes; 500 are allowed"),
        ("MOST_MEMBERS", 5, "has more than 5 members"),
        ("MOST_PIXELS", 1000, "has 64x48 pixels; 1000 are allowed"),
    ],
)
def test_what_is_larger_than_it_may_be_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int, words: str
) -> None:
    job = write(tmp_path, usual())
    monkeypatch.setattr(voc, limit, value)
    with pytest.raises(DataError, match="corrupt-file") as caught:
        load(job)
    assert words in str(caught.value)
