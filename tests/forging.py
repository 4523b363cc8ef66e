"""What somebody does who wants a record to certify more than it can: change it, and put every digest right again."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from unlearnbench.api.runtime import tensors_digest
from unlearnbench.record import PROOFS, RECORD, SEALED_BY, content_digest, seal

Change = Callable[[dict[str, Any]], object]


def copied(run: Path, to: Path) -> Path:
    """A run's folder elsewhere, to be changed."""
    shutil.copytree(run, to)
    return to


def read(run: Path) -> dict[str, Any]:
    """The document of a run."""
    document: dict[str, Any] = json.loads((run / RECORD).read_text("utf-8"))
    return document


def write(run: Path, document: dict[str, Any]) -> None:
    """Put a document in the place of a run's record, as it is."""
    (run / RECORD).write_text(json.dumps(document), "utf-8")


def edit(run: Path, change: Change) -> None:
    """Change a record and leave its digests as they are."""
    document = read(run)
    change(document)
    write(run, document)


def forge(run: Path, change: Change = lambda document: None) -> None:
    """Change a record and work out all digests anew that it states of itself."""
    document = read(run)
    change(document)
    if "proofs" in document and (run / PROOFS).is_file():
        document["proofs"] = hashlib.sha256((run / PROOFS).read_bytes()).hexdigest()
    document["digest"] = content_digest(document)
    if SEALED_BY in document:
        document[SEALED_BY] = seal(document)
    write(run, document)


def certificates(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Every certificate of a record where it stands, so that it can be changed; the last of a stream stands twice."""
    return [document["certificate"], *(request["certificate"] for request in document.get("stream", ()))]


def tensors_of(run: Path) -> dict[str, Tensor]:
    """The tensors beside a record."""
    return dict(load_file(run / PROOFS))


def forge_tensors(run: Path, tensors: dict[str, Tensor]) -> None:
    """Put other tensors beside a record and make everything that names them agree: models, certificates, digests."""
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, run / PROOFS)

    def under(prefix: str) -> str:
        return tensors_digest({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})

    def agree(document: dict[str, Any]) -> None:
        served = [request["certificate"] for request in document.get("stream", ())] or [document["certificate"]]
        document["models"]["original"][0]["sha256"] = under("original/")
        for step, certificate in enumerate(served):
            document["models"]["unlearned"][step]["sha256"] = under(f"{step}/model/")
            certificate["digests"] |= {"model": under(f"{step}/model/"), "proof": under(f"{step}/proof/")}
        document["certificate"] = served[-1]

    forge(run, agree)
