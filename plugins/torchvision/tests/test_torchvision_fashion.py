"""The real Fashion-MNIST files."""

from __future__ import annotations

import gzip
import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from unlearnbench.api import DataError
from unlearnbench.api.runtime import DataJob, Splits
from unlearnbench_torchvision import files
from unlearnbench_torchvision.datasets import FashionMNIST
from unlearnbench_torchvision.generic import Torchvision
from unlearnbench_torchvision.params import ImageParams, TorchvisionParams

RAW = "fashion-mnist/FashionMNIST/raw"
FILES = {
    f"{RAW}/{name}.gz"
    for name in (
        "train-images-idx3-ubyte",
        "train-labels-idx1-ubyte",
        "t10k-images-idx3-ubyte",
        "t10k-labels-idx1-ubyte",
    )
}
PINNED_IDS = "5a2978ecfde56c88dde84915aef424688e76c5bc8d35fd8f4403021c09884391"


def idx(root: Path, name: str) -> np.ndarray[Any, Any]:
    """An independent reader of packed idx files."""
    content = gzip.decompress((root / RAW / f"{name}.gz").read_bytes())
    shape = np.frombuffer(content, ">u4", content[3], 4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * content[3]).reshape(shape)


@pytest.fixture(scope="module")
def whole(real_root: Path, real_scratch: Path) -> Splits:
    job = DataJob(root=real_root, scratch=real_scratch, file=lambda name: real_root / name)
    return FashionMNIST(ImageParams(normalise=False)).load(job)


@pytest.fixture
def small(job: Any, real_root: Path) -> Any:
    """A writable data folder with the packed files of the test rows in both roles (quick to unpack)."""
    folder = Path(job.root) / RAW
    folder.mkdir(parents=True)
    for kind in ("images-idx3-ubyte.gz", "labels-idx1-ubyte.gz"):
        for part in ("train", "t10k"):
            shutil.copyfile(real_root / RAW / f"t10k-{kind}", folder / f"{part}-{kind}")
    return job


def test_every_pixel_and_label_is_the_published_one(whole: Splits, real_root: Path) -> None:
    assert (len(whole.train), len(whole.test)) == (60_000, 10_000)
    for data, part in ((whole.train, "train"), (whole.test, "t10k")):
        assert data.x.shape[1:] == (1, 28, 28)
        assert data.x.dtype == torch.float32
        expected = idx(real_root, f"{part}-images-idx3-ubyte").astype(np.float32) / np.float32(255)
        assert np.array_equal(data.x[:, 0].numpy(), expected)
        assert np.array_equal(data.y.numpy(), idx(real_root, f"{part}-labels-idx1-ubyte"))
    assert whole.train.y.bincount().tolist() == [6_000] * 10
    assert whole.test.y.bincount().tolist() == [1_000] * 10
    assert whole.train.outputs == whole.test.outputs
    assert whole.train.outputs[:2] == ("T-shirt/top", "Trouser")


def test_ids_are_positions_in_the_files(whole: Splits) -> None:
    assert torch.equal(whole.train.ids, torch.arange(60_000))
    assert torch.equal(whole.test.ids, 60_000 + torch.arange(10_000))


def test_a_draw_is_stratified_seeded_and_stable(whole: Splits, real_job: Any) -> None:
    params = ImageParams(rows=1_005, test_rows=200, normalise=False)
    draw = FashionMNIST(params).load(real_job)
    assert draw.train.y.bincount().tolist() == [101] * 5 + [100] * 5
    assert draw.test.y.bincount().tolist() == [20] * 10
    assert not set(draw.train.ids.tolist()) & set(draw.test.ids.tolist())
    assert torch.equal(draw.train.ids, draw.train.ids.sort().values)
    assert torch.equal(draw.train.x, whole.train.x[draw.train.ids])
    assert torch.equal(draw.test.x, whole.test.x[draw.test.ids - 60_000])
    assert FashionMNIST(params).load(real_job).train.digest() == draw.train.digest()
    # A draw that changes with a new version would silently change every scenario that uses it.
    found = hashlib.sha256(draw.train.ids.numpy().astype("<i8").tobytes()).hexdigest()
    assert found == PINNED_IDS
    other = FashionMNIST(ImageParams(rows=1_005, split_seed=1)).load(real_job)
    assert not torch.equal(other.train.ids, draw.train.ids)


def test_a_smaller_draw_is_part_of_a_larger_one(real_job: Any) -> None:
    small, large = (FashionMNIST(ImageParams(rows=n, test_rows=10)).load(real_job).train for n in (100, 1_000))
    assert set(small.ids.tolist()) < set(large.ids.tolist())


def test_normalising_uses_the_training_rows_that_are_used(whole: Splits, real_job: Any) -> None:
    found = FashionMNIST(ImageParams(rows=500, test_rows=100)).load(real_job)
    raw = whole.train.x[found.train.ids].double()
    mean, deviation = raw.mean(), raw.std(correction=0)
    for data, first in ((found.train, 0), (found.test, 60_000)):
        source = whole.train.x if first == 0 else whole.test.x
        expected = (source[data.ids - first].double() - mean) / deviation
        torch.testing.assert_close(data.x.double(), expected, atol=1e-5, rtol=0)
    assert abs(float(found.train.x.mean())) < 1e-4
    assert abs(float(found.test.x.mean())) > 1e-4


def test_images_can_be_resized(real_job: Any) -> None:
    found = FashionMNIST(ImageParams(rows=20, test_rows=10, image_size=32, normalise=False)).load(real_job)
    assert found.train.x.shape == (20, 1, 32, 32)
    assert 0 <= float(found.train.x.min()) < 0.1 < 0.9 < float(found.train.x.max()) <= 1


def test_the_manifest_names_every_file_that_was_read(real_job: Any, downloads: list[str]) -> None:
    FashionMNIST(ImageParams(rows=10, test_rows=10)).load(real_job)
    assert set(real_job.read) == FILES
    assert downloads == []


def test_the_general_data_set_reads_the_same_rows(real_job: Any) -> None:
    own = FashionMNIST(ImageParams(rows=50, test_rows=50)).load(real_job)
    general = Torchvision(TorchvisionParams(dataset="FashionMNIST", rows=50, test_rows=50)).load(real_job)
    assert (general.train.digest(), general.test.digest()) == (own.train.digest(), own.test.digest())


def test_raw_files_are_read_as_they_are(small: Any, job_over: Callable[..., Any], tmp_path: Path) -> None:
    packed = FashionMNIST(ImageParams()).load(small)
    for path in sorted((Path(small.root) / RAW).glob("*.gz")):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    job = job_over(small.root, tmp_path / "another")
    assert FashionMNIST(ImageParams()).load(job).train.digest() == packed.train.digest()
    assert set(job.read) == {name.removesuffix(".gz") for name in FILES}


def test_a_data_folder_that_cannot_be_written_is_fine(small: Any) -> None:
    folders = [Path(small.root), *(p for p in Path(small.root).rglob("*") if p.is_dir())]
    before = sorted(Path(small.root).rglob("*"))
    for folder in folders:
        folder.chmod(0o555)
    try:
        assert len(FashionMNIST(ImageParams(rows=10)).load(small).train) == 10
    finally:
        for folder in folders:
            folder.chmod(0o755)
    assert sorted(Path(small.root).rglob("*")) == before


@pytest.mark.parametrize("damage", ["truncated", "flipped", "longer"])
def test_a_damaged_copy_in_the_scratch_folder_is_made_again(small: Any, damage: str) -> None:
    before = FashionMNIST(ImageParams()).load(small).train.digest()
    copy = Path(small.scratch) / "torchvision" / RAW / "train-images-idx3-ubyte"
    content = bytearray(copy.read_bytes())
    whole = bytes(content)
    content[5_000] ^= 255
    copy.write_bytes({"truncated": whole[:-9], "flipped": bytes(content), "longer": whole + b"0"}[damage])
    assert FashionMNIST(ImageParams()).load(small).train.digest() == before
    assert copy.read_bytes() == whole


def test_a_copy_is_unpacked_once_and_again_when_its_source_changes(
    small: Any, real_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unpacked: list[str] = []
    replace = files._replace

    def counted(source: Path, target: Path, *, packed: bool) -> None:
        unpacked.append(source.name)
        replace(source, target, packed=packed)

    monkeypatch.setattr(files, "_replace", counted)
    FashionMNIST(ImageParams(rows=10)).load(small)
    assert len(unpacked) == 4
    FashionMNIST(ImageParams(rows=10)).load(small)
    assert len(unpacked) == 4
    for kind in ("images-idx3-ubyte.gz", "labels-idx1-ubyte.gz"):
        shutil.copyfile(real_root / RAW / f"train-{kind}", Path(small.root) / RAW / f"train-{kind}")
    assert len(FashionMNIST(ImageParams()).load(small).train) == 60_000
    assert len(unpacked) == 6
    assert not list(Path(small.scratch).rglob(".*"))


def test_a_missing_file_names_itself_and_the_command(small: Any) -> None:
    (Path(small.root) / RAW / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match="unlearnbench data fetch fashion-mnist") as caught:
        FashionMNIST(ImageParams()).load(small)
    assert caught.value.code == "missing-file"
    assert caught.value.where == f"{RAW}/t10k-labels-idx1-ubyte"
    assert "\n" not in str(caught.value)


def damage_gz(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    if how == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif how == "flipped":
        content[len(content) // 2] ^= 255
        path.write_bytes(content)
    elif how == "not packed":
        path.write_bytes(b"<html>404 Not Found</html>")
    elif how == "empty":
        path.write_bytes(b"")
    else:
        inner = gzip.decompress(bytes(content))
        broken = {
            "idx truncated": inner[:-1],
            "idx longer": inner + b"\0",
            "idx magic": b"\1" + inner[1:],
            "idx dimensions": inner[:3] + b"\2" + inner[4:],
            "idx header": inner[:6],
        }[how]
        path.write_bytes(gzip.compress(broken, 1))


@pytest.mark.parametrize(
    "how",
    [
        "truncated",
        "flipped",
        "not packed",
        "empty",
        "idx truncated",
        "idx longer",
        "idx magic",
        "idx dimensions",
        "idx header",
    ],
)
@pytest.mark.parametrize("name", ["train-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"])
def test_a_damaged_file_is_named(small: Any, how: str, name: str) -> None:
    damage_gz(Path(small.root) / RAW / name, how)
    with pytest.raises(DataError) as caught:
        FashionMNIST(ImageParams()).load(small)
    assert (caught.value.code, caught.value.where) == ("corrupt-file", f"{RAW}/{name}")
    assert "\n" not in str(caught.value)


def test_a_damaged_file_does_not_spoil_the_copy_of_an_earlier_run(small: Any) -> None:
    path = Path(small.root) / RAW / "train-images-idx3-ubyte.gz"
    content = path.read_bytes()
    before = FashionMNIST(ImageParams()).load(small).train.digest()
    damage_gz(path, "truncated")
    with pytest.raises(DataError):
        FashionMNIST(ImageParams()).load(small)
    path.write_bytes(content)
    assert FashionMNIST(ImageParams()).load(small).train.digest() == before
    assert not list(Path(small.scratch).rglob(".*"))


def test_labels_and_images_must_be_as_many(small: Any, real_root: Path) -> None:
    name = "train-labels-idx1-ubyte.gz"
    shutil.copyfile(real_root / RAW / name, Path(small.root) / RAW / name)
    with pytest.raises(DataError, match="60000 labels for 10000 images") as caught:
        FashionMNIST(ImageParams()).load(small)
    assert caught.value.where == f"{RAW}/{name}"


def test_a_label_outside_the_classes_is_refused(small: Any) -> None:
    path = Path(small.root) / RAW / "train-labels-idx1-ubyte.gz"
    content = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(content[:-1] + b"\x0b"))
    with pytest.raises(DataError, match=r"outside 0\.\.9"):
        FashionMNIST(ImageParams()).load(small)


def test_asking_for_more_rows_than_there_are_is_refused(real_job: Any) -> None:
    with pytest.raises(DataError, match="asks for 60001 of 60000 rows") as caught:
        FashionMNIST(ImageParams(rows=60_001)).load(real_job)
    assert caught.value.where == "fashion-mnist.rows"


def test_a_scratch_folder_that_cannot_be_written_is_one_line(small: Any, job_over: Callable[..., Any]) -> None:
    blocker = Path(small.scratch) / "file"
    blocker.write_text("not a folder")
    with pytest.raises(DataError) as caught:
        FashionMNIST(ImageParams()).load(job_over(small.root, blocker))
    assert caught.value.code == "unreadable-data"


def test_fetch_leaves_what_is_there_alone(small: Any, downloads: list[str]) -> None:
    before = sorted(Path(small.root).rglob("*"))
    FashionMNIST(ImageParams()).fetch(small)
    assert downloads == []
    assert small.read == {}
    assert sorted(Path(small.root).rglob("*")) == before


def test_fetch_without_a_network_is_one_line_and_leaves_nothing(job: Any, downloads: list[str]) -> None:
    with pytest.raises(DataError, match="fashion-mnist") as caught:
        FashionMNIST(ImageParams()).fetch(job)
    assert caught.value.code == "fetch-failed"
    assert downloads
    assert list(Path(job.root).iterdir()) == []


def test_fetch_replaces_a_damaged_file(
    small: Any, real_root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """torchvision's own download runs, with the one function that opens a connection replaced by a copy."""
    damage_gz(Path(small.root) / RAW / "train-images-idx3-ubyte.gz", "truncated")

    def serve(url: str, filename: str | Path) -> None:
        shutil.copyfile(real_root / RAW / url.rpartition("/")[2], filename)

    md5 = {p.name: hashlib.md5(p.read_bytes()).hexdigest() for p in (real_root / RAW).glob("*.gz")}
    monkeypatch.setattr(FashionMNIST.origin, "resources", list(md5.items()))
    monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", serve)
    monkeypatch.setattr("torchvision.datasets.utils._get_redirect_url", lambda url, max_hops: url)
    FashionMNIST(ImageParams()).fetch(small)
    assert capsys.readouterr().out == ""
    assert not list(Path(small.root).glob(".*"))
    assert len(FashionMNIST(ImageParams()).load(small).train) == 60_000
