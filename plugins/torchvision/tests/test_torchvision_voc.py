"""Pascal VOC on small files that the tests write in its layout: JPEGs, palette masks, XML."""

from __future__ import annotations

import os
import re
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision.datasets as tv
from PIL import Image

from unlearnbench.api import DataError
from unlearnbench.api.runtime import MISSING, TASKS
from unlearnbench_torchvision import voc
from unlearnbench_torchvision.params import VocDetectionParams, VocParams
from unlearnbench_torchvision.voc import CLASSES, VocDetection, VocSegmentation, boxes_of

TRAIN, VAL = ["2007_000032", "2007_000039"], ["2007_000033"]
SIZES = {"2007_000032": (60, 40), "2007_000039": (33, 47), "2007_000033": (16, 16)}  # width, height
PERSON, DOG = CLASSES.index("person"), CLASSES.index("dog")


def thing(name: str, *corners: float, more: str = "<difficult>0</difficult>") -> str:
    box = "".join(f"<{k}>{v:g}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True))
    return f"<object><name>{name}</name>{more}<bndbox>{box}</bndbox></object>"


def annotation(*things: str) -> str:
    return f"<annotation><filename>a.jpg</filename>{''.join(things)}</annotation>"


CORNERS = "<xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax>"
HEAD = f"<difficult>0</difficult><part><name>head</name><bndbox>{CORNERS}</bndbox></part>"
XML = {
    # The whole image of 60x40, and from the 16th to the 30th column and the 11th to the 20th row.
    "2007_000032": annotation(thing("person", 1, 1, 60, 40, more=HEAD), thing("dog", 16, 11, 30, 20)),
    "2007_000039": annotation(thing("dog", 2, 2, 9, 9, more="<difficult>1</difficult>")),
    "2007_000033": annotation(),
}


def mask_of(name: str) -> np.ndarray[Any, Any]:
    """Random ids among 0..20 and 255, so that any interpolation between neighbours would show."""
    width, height = SIZES[name]
    rng = np.random.default_rng(int(name[-2:]))
    return rng.choice(np.array([0, 1, 15, 20, 255], dtype=np.uint8), size=(height, width))


def save_mask(path: Path, ids: np.ndarray[Any, Any]) -> None:
    image = Image.fromarray(ids, mode="P") if ids.ndim == 2 else Image.fromarray(ids)
    if ids.ndim == 2:
        image.putpalette([(37 * k) % 256 for k in range(768)])  # colours mean nothing, indices do
    image.save(path)


def write_tree(root: Path, year: int = 2012) -> Path:
    home = root / f"VOCdevkit/VOC{year}"
    for folder in ("JPEGImages", "SegmentationClass", "Annotations", "ImageSets/Segmentation", "ImageSets/Main"):
        (home / folder).mkdir(parents=True)
    for name, (width, height) in SIZES.items():
        ramp = np.linspace(0, 255, width)[None, :, None] * np.ones((height, 1, 3))
        Image.fromarray(ramp.astype(np.uint8)).save(home / f"JPEGImages/{name}.jpg", quality=95)
        save_mask(home / f"SegmentationClass/{name}.png", mask_of(name))
        (home / f"Annotations/{name}.xml").write_text(XML[name])
    for folder in ("Segmentation", "Main"):
        (home / f"ImageSets/{folder}/train.txt").write_text("".join(f"{name}\n" for name in TRAIN))
        (home / f"ImageSets/{folder}/val.txt").write_text("".join(f"{name}\n" for name in VAL))
    return home


@pytest.fixture
def home(job: Any) -> Path:
    return write_tree(Path(job.root) / "voc")


def masks(job: Any, **params: Any) -> Any:
    return VocSegmentation(VocParams(**{"image_size": 20, "normalise": False, **params})).load(job)


def boxes(job: Any, **params: Any) -> Any:
    return VocDetection(VocDetectionParams(**{"image_size": 20, "normalise": False, **params})).load(job)


def test_masks_keep_their_ids_and_255_is_missing(job: Any, home: Path) -> None:
    found = masks(job)
    assert found.train.outputs == ("background", *CLASSES)
    assert len(found.train.outputs) == 21
    assert found.train.outputs[15] == "person"
    for part, names in ((found.train, TRAIN), (found.test, VAL)):
        assert part.x.shape == (len(names), 3, 20, 20)
        assert part.y.dtype == torch.int64
        for y, name in zip(part.y.numpy(), names, strict=True):
            ids = mask_of(name).astype(np.int64)
            height, width = ids.shape
            rows = np.floor((np.arange(20) + 0.5) * height / 20).astype(int)
            columns = np.floor((np.arange(20) + 0.5) * width / 20).astype(int)
            expected = ids[rows][:, columns]
            expected[expected == 255] = MISSING
            assert np.array_equal(y, expected)
        assert TASKS["segmentation"].find_fault(part.x, part.y, len(part.outputs)) is None
    assert set(found.train.y.unique().tolist()) == {MISSING, 0, 1, 15, 20}
    assert found.train.ids.tolist() == [0, 1]
    assert found.test.ids.tolist() == [2]


def test_a_mask_of_its_images_size_comes_through_pixel_by_pixel(job: Any, home: Path) -> None:
    expected = mask_of(VAL[0]).astype(np.int64)
    expected[expected == 255] = MISSING
    assert np.array_equal(masks(job, image_size=16).test.y[0].numpy(), expected)


def test_rows_and_pixels_are_those_of_torchvision(job: Any, home: Path) -> None:
    root = str(Path(job.root) / "voc")
    for origin, ours in ((tv.VOCSegmentation, masks(job)), (tv.VOCDetection, boxes(job))):
        for image_set, part in (("train", ours.train), ("val", ours.test)):
            theirs = origin(root=root, year="2012", image_set=image_set)
            assert len(theirs) == len(part)
            for i in range(len(theirs)):
                image, annotation = theirs[i]
                if isinstance(annotation, Image.Image):
                    annotation.close()  # torchvision leaves it open
                scaled = image.resize((20, 20), Image.Resampling.BILINEAR)  # Pillow's filter is antialiased
                expected = np.asarray(scaled, dtype=np.int64).transpose(2, 0, 1)
                assert np.abs(np.round(part.x[i].numpy() * 255) - expected).max() <= 1


def test_boxes_are_counted_from_0_and_scaled_to_the_square(job: Any, home: Path) -> None:
    found = boxes(job, image_size=20)
    assert found.train.outputs == CLASSES
    assert len(CLASSES) == 20
    # 60x40 becomes 20x20: columns divided by 3, rows by 2. Columns 16..30 are the edges 15 and 30.
    expected = [[0.0, 0.0, 20.0, 20.0, PERSON], [5.0, 5.0, 10.0, 10.0, DOG]]
    assert torch.allclose(found.train.y[0], torch.tensor(expected))
    assert found.train.y.shape == (2, 2, 5)
    assert found.train.y.dtype == torch.float32


def test_images_without_objects_are_kept_with_no_box(job: Any, home: Path) -> None:
    found = boxes(job)
    assert found.train.y[1].isnan().all()  # its only object is difficult
    assert found.test.y.shape == (1, 1, 5)
    assert found.test.y.isnan().all()
    for part in (found.train, found.test):
        assert TASKS["detection"].find_fault(part.x, part.y, len(part.outputs)) is None


def test_difficult_objects_are_kept_when_asked_for(job: Any, home: Path) -> None:
    y = boxes(job, difficult=True, image_size=33).train.y[1]
    assert torch.allclose(y[0], torch.tensor([1.0, 33 / 47, 9.0, 9 * 33 / 47, DOG]))
    assert y[1].isnan().all()


def test_boxes_are_clipped_and_those_without_area_left_out(job: Any, home: Path) -> None:
    # Known in VOC: corners 0, and one pixel past the edge. A box from 5 to 4 is empty: the edges are 4 and 4.
    (home / f"Annotations/{TRAIN[0]}.xml").write_text(
        annotation(thing("cat", 0, 0, 61, 45), thing("cat", 5, 3, 4, 9), thing("dog", 61, 1, 70, 9))
    )
    found = boxes(job)
    assert found.train.y[0].tolist() == [[0.0, 0.0, 20.0, 20.0, CLASSES.index("cat")]]
    assert TASKS["detection"].find_fault(found.train.x, found.train.y, 20) is None


def test_scaled_boxes_stay_inside_whatever_the_sizes(job: Any, home: Path) -> None:
    for size in range(16, 67):
        found = boxes(job, image_size=size, difficult=True)
        assert TASKS["detection"].find_fault(found.train.x, found.train.y, 20) is None


@pytest.mark.parametrize(
    ("things", "message"),
    [
        (thing("dog", 9, 2, 3, 9), "has no corners"),
        (thing("dog", 1, 2, float("nan"), 9), "has no corners"),
        (thing("dog", 100, 2, 120, 9), "beside its image of 60x40"),
        (thing("unicorn", 1, 2, 3, 9), "no class 'unicorn'"),
        (thing("dog", 1, 2, 3, 9, more="<difficult>yes</difficult>"), "neither 0 nor 1"),
        ("<object><name>dog</name></object>", "a dog has no box of four numbers"),
        (thing("dog", 1, 2, 3, 9).replace("<xmax>3", "<xmax>three"), "a dog has no box of four numbers"),
    ],
    ids=["turned around", "not a number", "beside", "unknown class", "difficult", "no box", "no numbers"],
)
def test_an_annotation_that_cannot_be_right_is_named(job: Any, home: Path, things: str, message: str) -> None:
    (home / f"Annotations/{TRAIN[0]}.xml").write_text(annotation(things))
    with pytest.raises(DataError, match=message) as caught:
        boxes(job)
    assert caught.value.code == "bad-annotations"
    assert caught.value.where == f"voc/VOCdevkit/VOC2012/Annotations/{TRAIN[0]}.xml"


def test_annotations_that_others_wrote_in_this_format_are_read_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    beside = Path(__file__).resolve().parents[3].parent / "shared" / "data"
    archive = Path(os.environ.get("UNLEARNBENCH_DATA", beside)) / "bccd/bccd-voc.tar"
    if not archive.is_file():
        pytest.skip(f"no {archive}; set UNLEARNBENCH_DATA")
    monkeypatch.setattr(voc, "CLASSES", ("RBC", "WBC", "Platelets"))
    files = 0
    with tarfile.open(archive) as opened:
        for member in opened:
            if not member.name.endswith(".xml"):
                continue
            files += 1
            content = opened.extractfile(member).read()  # type: ignore[union-attr]
            found = boxes_of(content, member.name, difficult=True)
            # The same by another way: the texts in the order in which they stand in the file.
            names = re.findall(rb"<name>(\w+)</name>", content)
            edges = [
                re.findall(rb"<%s>(\d+)</%s>" % (key, key), content) for key in (b"xmin", b"ymin", b"xmax", b"ymax")
            ]
            assert [voc.CLASSES[k].encode() for *_, k in found] == names
            assert [[x1 + 1, y1 + 1, x2, y2] for x1, y1, x2, y2, _ in found] == [
                [int(v) for v in corners] for corners in zip(*edges, strict=True)
            ]
    assert files == 364


LAUGHS = "".join(f'<!ENTITY l{k} "{f"&l{k - 1};" * 10}">' for k in range(1, 12))


@pytest.mark.parametrize(
    "content",
    [
        f'<!DOCTYPE annotation [<!ENTITY l0 "ha">{LAUGHS}]><annotation>&l11;</annotation>'.encode(),
        b'<!DOCTYPE a [<!ENTITY f SYSTEM "file:///etc/hostname">]><annotation><object><name>&f;</name></object></annotation>',
        b'<!DOCTYPE annotation SYSTEM "http://example.org/a.dtd"><annotation></annotation>',
        '<?xml version="1.0" encoding="utf-16"?><!DOCTYPE annotation><annotation></annotation>'.encode("utf-16"),
    ],
    ids=["entities that grow", "a file as entity", "a grammar of elsewhere", "another encoding"],
)
def test_a_doctype_is_refused(content: bytes, downloads: list[str]) -> None:
    with pytest.raises(DataError, match="has a DOCTYPE") as caught:
        boxes_of(content, "a.xml", difficult=False)
    assert caught.value.code == "corrupt-file"
    assert downloads == []


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("load", "file"),
    [
        (masks, f"JPEGImages/{TRAIN[1]}.jpg"),
        (masks, f"SegmentationClass/{TRAIN[1]}.png"),
        (boxes, f"JPEGImages/{VAL[0]}.jpg"),
        (boxes, f"Annotations/{VAL[0]}.xml"),
    ],
    ids=["image of a mask", "mask", "image of boxes", "boxes"],
)
def test_damaged_and_missing_files_are_named(job: Any, home: Path, load: Callable[[Any], Any], file: str) -> None:
    cut(home / file)
    with pytest.raises(DataError) as caught:
        load(job)
    assert (caught.value.code, caught.value.where) == ("corrupt-file", f"voc/VOCdevkit/VOC2012/{file}")
    (home / file).unlink()
    with pytest.raises(DataError, match="unlearnbench data fetch voc-") as caught:
        load(job)
    assert (caught.value.code, caught.value.where) == ("missing-file", f"voc/VOCdevkit/VOC2012/{file}")


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (np.full((40, 60), 21, dtype=np.uint8), "a pixel has the id 21, not 0 to 20 or 255"),
        (np.zeros((60, 40), dtype=np.uint8), "has 40x60 pixels, and its image 60x40"),
        (np.zeros((40, 60, 3), dtype=np.uint8), "is of mode RGB, not a palette image"),
    ],
    ids=["unknown id", "other size", "colours"],
)
def test_a_mask_that_cannot_be_right_is_named(job: Any, home: Path, ids: Any, message: str) -> None:
    save_mask(home / f"SegmentationClass/{TRAIN[0]}.png", ids)
    with pytest.raises(DataError, match=message) as caught:
        masks(job)
    assert caught.value.code == "bad-annotations"
    assert caught.value.where == f"voc/VOCdevkit/VOC2012/SegmentationClass/{TRAIN[0]}.png"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("", "has no rows"),
        (f"{VAL[0]}\n{VAL[0]}\n", "or one twice"),
        (f"{TRAIN[0]}\n", f"{TRAIN[0]} is both in train.txt and in val.txt"),
        ("../../../secret\n", "outside its folder"),
        ("\xe9\n", "cannot be read"),
    ],
    ids=["empty", "twice", "in both", "outside", "not ASCII"],
)
def test_a_list_that_cannot_be_right_is_refused(job: Any, home: Path, names: str, message: str) -> None:
    (home / "ImageSets/Main/val.txt").write_text(names, encoding="latin-1")
    with pytest.raises(DataError, match=message):
        boxes(job)


def test_rows_are_drawn_by_seed_and_only_they_are_read(job: Any, home: Path) -> None:
    found = masks(job, rows=1)
    assert masks(job, rows=1).train.digest() == found.train.digest()
    job.read.clear()
    masks(job, rows=1)
    drawn = TRAIN[int(found.train.ids)]
    assert {Path(name).stem for name in job.read if "ImageSets" not in name} == {drawn, *VAL}
    whole = masks(job)
    assert torch.equal(whole.train.y[found.train.ids], found.train.y)
    assert len({tuple(masks(job, rows=1, split_seed=s).train.ids.tolist()) for s in range(8)}) == 2
    with pytest.raises(DataError, match="asks for 3 of 2 rows"):
        masks(job, rows=3)


def test_numbers_are_normalised_with_the_training_rows(job: Any, home: Path) -> None:
    plain, found = masks(job), masks(job, normalise=True)
    mean, deviation = (getattr(plain.train.x, f)((0, 2, 3), keepdim=True) for f in ("mean", "std"))
    assert torch.allclose(found.test.x, (plain.test.x - mean) / deviation, atol=2e-3)
    assert torch.equal(plain.train.y, found.train.y)


def test_the_year_names_the_folder(job: Any) -> None:
    write_tree(Path(job.root) / "voc", 2007)
    assert len(boxes(job, year=2007).train) == 2
    with pytest.raises(DataError, match="VOC2012"):
        boxes(job)


def test_loading_never_downloads_and_fetching_tries_to(job: Any, downloads: list[str]) -> None:
    for component in (VocSegmentation(VocParams()), VocDetection(VocDetectionParams(year=2007))):
        with pytest.raises(DataError, match=f"unlearnbench data fetch {component.name}") as caught:
            component.load(job)
        assert caught.value.code == "missing-file"
        assert downloads == []
        with pytest.raises(DataError) as caught:
            component.fetch(job)
        assert caught.value.code == "fetch-failed"
        assert downloads
        downloads.clear()
        assert list(Path(job.root).iterdir()) == []


def test_one_download_serves_masks_and_boxes(job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = []

    def archive(url: str, root: str, filename: str, md5: str) -> None:
        fetched.append(filename)
        write_tree(Path(root))

    monkeypatch.setattr(tv.voc, "download_and_extract_archive", archive)
    VocSegmentation(VocParams()).fetch(job)
    assert len(masks(job).train) == 2
    VocDetection(VocDetectionParams()).fetch(job)
    assert len(boxes(job).train) == 2
    assert fetched == ["VOCtrainval_11-May-2012.tar"]
    shutil.rmtree(Path(job.root) / "voc/VOCdevkit/VOC2012/SegmentationClass")
    VocSegmentation(VocParams()).fetch(job)
    assert len(fetched) == 2
    assert len(masks(job).train) == 2
