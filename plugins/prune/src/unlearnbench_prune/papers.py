"""What a run of PRUNE left, to be handed out: the patched model, and the certificates of its rows or classes.

A run's folder has ``record.json``, with the certificate of the last request, and ``proofs.safetensors``, with every
model and with the certificates of single rows or classes. Both may be anybody's: what is used is checked, and belongs
together.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from unlearnbench.api import DataError, IncompatibleError, UsageError
from unlearnbench_prune import exporting
from unlearnbench_prune.certificate import CLAIMS, METHOD, public_copy
from unlearnbench_prune.rebuilding import example, rebuilt
from unlearnbench_prune.saving import ENTRY
from unlearnbench_verifier.files import canonical, load_json, read_json, read_tensors
from unlearnbench_verifier.form import digest, parse_any, parse_issue
from unlearnbench_verifier.model import read_model
from unlearnbench_verifier.signatures import sign

FORMAT = "prune/1"
RECORD, PROOFS = "record.json", "proofs.safetensors"
HINT = "name the folder that a run of prune left"
MODEL, ISSUE, CERTIFICATES, OWNER = "model.safetensors", "issue.json", "certificates", "owner"
STATED: Mapping[str, type | tuple[type, ...]] = {
    "served": int, "margin": float, "gate": dict, "radius": (str, float, type(None)), "multi": str, "form": str,
    "rows": int, "certified": int, "empirical": int, "failed": int, "base": str, "patched": str, "split_at": str,
    "box": dict, "certificates": list, "issue": str, "previous": (str, type(None)), "uncertified": list, "means": str,
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Papers:
    """A patched model and its certificates.

    ``tensors`` is the model's state dict and ``metadata`` what its file says beside it; ``certificates`` are the
    owner's copies, with what is secret, and ``issue`` binds them to each other.
    """

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, Any]
    certificates: Sequence[Mapping[str, Any]]
    issue: Mapping[str, Any]
    patched: str
    """sha256 of the model, as the record states it"""


def read_certificate(run: Path) -> dict[str, Any]:
    """The certificate of a run's record.

    Raises:
        DataError: the record says something else than a record does.
        IncompatibleError: the run was not certified by this method.
        Refusal: there is no record that can be read.
    """
    path = run if run.suffix == ".json" else run / RECORD
    record = read_json(path)
    found = record.get("certificate") if isinstance(record, dict) else None
    if not isinstance(found, dict) or found.get("method") != METHOD or found.get("claim") not in CLAIMS:
        raise IncompatibleError("no-certificate", "has no certificate of prune", where=str(path), hint=HINT)
    for name, kind in STATED.items():
        value = found.get(name, ...)
        if not isinstance(value, kind) and not (kind is float and type(value) is int):
            raise DataError("wrong-record", "says nothing that can be understood about its certificate",
                            where=f"{path}: certificate.{name}", hint=HINT)  # fmt: skip
    return found


def read_papers(run: Path) -> Papers:
    """The model after the last request of a run, and the certificates that belong to it.

    Raises:
        DataError: files of the run are missing or damaged, or do not belong together.
        IncompatibleError: the run was not certified by this method.
        Refusal: a file, or a document in it, cannot be read.
    """
    stated = read_certificate(run)
    path = (run.parent if run.suffix == ".json" else run) / PROOFS
    tensors, packed = _tensors(path, stated["served"] - 1)
    found = load_json(packed.numpy().tobytes(), where=f"{path}: certificates")
    known = isinstance(found, dict) and found.get("format") == FORMAT
    if not known or not isinstance(found.get("certificates"), list) or not isinstance(found.get("metadata"), dict):
        raise _wrong("holds no certificates of single rows or classes", path)
    for document in found["certificates"]:
        parse_any(document)
    issue = parse_issue(found.get("issue"))
    if [digest(document) for document in found["certificates"]] != stated["certificates"]:
        raise _wrong("holds other certificates than the record names", path)
    if issue.patched != stated["patched"]:
        raise _wrong("was issued for another model than the record names", path)
    return Papers(tensors, found["metadata"], found["certificates"], found["issue"], stated["patched"])


def _tensors(path: Path, step: int) -> tuple[dict[str, Tensor], Tensor]:
    """The state dict of the model after a request, and the bytes of its certificates."""
    model, papers = f"{step}/model/", f"{step}/proof/certificates"
    if not path.is_file():
        raise DataError("missing-file", "is not there", where=str(path), hint=HINT)
    try:
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
            tensors = {name.removeprefix(model): file.get_tensor(name) for name in names if name.startswith(model)}
            packed = file.get_tensor(papers) if papers in names else None
    except (SafetensorError, OSError, ValueError, RuntimeError) as problem:
        raise DataError("unreadable-file", f"cannot be read as safetensors: {str(problem)[:200]}", where=str(path),
                        hint=HINT) from problem  # fmt: skip
    if packed is None or not tensors or packed.dtype != torch.uint8 or packed.ndim != 1:
        raise _wrong(f"holds no model and certificates after request {step}", path)
    return tensors, packed


def _wrong(what: str, path: Path) -> DataError:
    return DataError("wrong-artifact", what, where=str(path), hint=HINT)


# -- handing out -------------------------------------------------------------------------------------------------------


def export(papers: Papers, out: Path, *, owner: bool, key: Path | None, created: str | None) -> None:
    """Write model, certificates and issue into a new folder, all of them or nothing.

    Certificates are the public copies; with ``owner`` the copies with salt, row and label are in a folder of their own,
    each beside its row as .npy; a certificate of a class has none. ``created`` is the time that they state, ``key``
    signs them.

    Raises:
        UsageError: the folder holds something (bad-output).
        DataError: it cannot be written, or the model is not the one that was certified.
        Refusal: the key cannot be used, or the time is none.
    """
    dated = [{**document, "created": created} for document in papers.certificates]
    public = [_signed(public_copy(document), key) for document in dated]
    with _new_folder(out) as folder:
        save_model(papers, folder / MODEL)
        _write_all(folder / CERTIFICATES, public)
        _write(folder / ISSUE, papers.issue)
        if owner:
            _write_all(folder / OWNER, [_signed(document, key) for document in dated])
            (folder / OWNER).chmod(0o700)
            rows = [(number, document) for number, document in enumerate(dated) if "request" in document]
            for number, document in rows:
                sample = np.array(document["request"]["sample"], dtype=np.float32)
                np.save(folder / OWNER / f"{number:04}.npy", sample, allow_pickle=False)


def save_model(papers: Papers, path: Path) -> None:
    """Write the patched model as the file that certificates speak about.

    Raises:
        DataError: it is not that model (wrong-artifact).
        Refusal: it is no patched model at all.
    """
    tensors = {name: tensor.contiguous() for name, tensor in papers.tensors.items()}
    save_file(tensors, path, {ENTRY: canonical(papers.metadata).decode("utf-8")})
    if read_model(read_tensors(path)).patched != papers.patched:
        raise DataError("wrong-artifact", "the model is not the one that was certified", where=PROOFS, hint=HINT)


def write_script(papers: Papers, out: Path) -> None:
    """Write the patched model as TorchScript.

    Raises:
        UsageError: its gate is committed (cannot-export).
        DataError: it cannot be written, or is not the model that was certified.
        Refusal: it is no patched model at all.
    """
    with tempfile.TemporaryDirectory() as folder:
        save_model(papers, Path(folder, MODEL))  # which looks at everything about it
    model = rebuilt(papers.metadata, papers.tensors)
    try:
        with tempfile.TemporaryDirectory(prefix=".tmp-", dir=out.parent) as folder:
            exporting.export(model, example(papers.metadata), Path(folder, "model.pt"))
            Path(folder, "model.pt").replace(out)
    except OSError as problem:
        raise _cannot_write(out, problem) from problem


def _signed(document: Mapping[str, Any], key: Path | None) -> Mapping[str, Any]:
    parse_any(document)  # what is handed out must be what the verifier takes
    return document if key is None else sign(document, key)


def _write_all(folder: Path, documents: Sequence[Mapping[str, Any]]) -> None:
    folder.mkdir()
    for number, document in enumerate(documents):
        _write(folder / f"{number:04}.json", document)


def _write(path: Path, document: Mapping[str, Any]) -> None:
    path.write_bytes(canonical(document) + b"\n")


@contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """A folder that takes the place of ``out`` when nothing was raised."""
    try:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UsageError("bad-output", "is there already", where=str(out), hint="name a new or an empty folder")
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".tmp-", dir=out.parent))
        try:
            yield folder
            folder.chmod(0o755)
            folder.replace(out)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    except OSError as problem:
        raise _cannot_write(out, problem) from problem


def _cannot_write(out: Path, problem: OSError) -> DataError:
    return DataError("cannot-write", problem.strerror or str(problem), where=str(out),
                     hint="choose a folder that can be written")  # fmt: skip
