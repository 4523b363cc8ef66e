"""Signatures over a submission, by model-signing: who packed these bytes, and that nobody changed them since.

They say nothing of whether the numbers are true; that is what verification recomputes.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import importlib
import io
import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

from unlearnbench.api.errors import CheckFailed, DataError, UsageError
from unlearnbench.leaderboard.layout import SIGNATURE

MOST_BYTES = 16 * 2**20
"""Far more than a signature over as many files as a submission may have."""


def sign(folder: Path, key: Path | Literal["sigstore"]) -> Path:
    """Sign all files of a submission and put the signature beside them.

    Raises:
        UnlearnBenchError: as ``signer``; or sigstore did not sign.
    """
    return signer(key)(folder)


def signer(key: Path | Literal["sigstore"]) -> Callable[[Path], Path]:
    """What signs a folder with a private EC key (PEM), which is looked at now, before anything is made to be signed.

    With ``sigstore`` there is no key: the signer proves an identity to sigstore's public instance, in a browser or as
    a job of a service that hands out identity tokens. This needs the network; only its failing without one is tested.

    Raises:
        UsageError: model-signing is not installed, or the key cannot be used.
        DataError: the key cannot be read.
    """
    config = _module("signing").Config().set_hashing_config(_hashing())
    if key == "sigstore":
        return partial(_sign_with_sigstore, config)
    _read_key(key)
    try:
        config.use_elliptic_key_signer(private_key=key)
    except (ValueError, TypeError, AttributeError) as problem:
        raise _bad_key(key, problem, "ecparam -name prime256v1 -genkey -noout -out KEY.pem") from problem
    return partial(_sign, config)


def _sign(config: Any, folder: Path) -> Path:
    config.sign(folder, folder / SIGNATURE)
    return folder / SIGNATURE


def _sign_with_sigstore(config: Any, folder: Path) -> Path:
    try:
        return _sign(config.use_sigstore_signer(use_ambient_credentials=True), folder)
    except Exception as problem:  # of the network, of the identity, of a service: they have nothing in common
        raise CheckFailed("signing-failed", f"{type(problem).__name__}: {_why(problem)}", where="sigstore",
                          hint="sign with a key of your own: --sign KEY.pem") from problem  # fmt: skip


def verify_signature(folder: Path, public_key: Path) -> None:
    """Check that every file of a submission is what the owner of a key signed, and that there is no other file.

    Raises:
        UsageError: model-signing is not installed, or the key cannot be used.
        DataError: there is no signature, it cannot be read, it is not of this key, or files are not those it is over.
    """
    verifying = _module("verifying")
    path = folder / SIGNATURE
    where = str(path)
    if not path.is_file():
        raise DataError("missing-file", "there is no signature", where=where, hint="pack it again with --sign KEY.pem")
    _read_key(public_key)
    try:
        config = verifying.Config().use_elliptic_key_verifier(public_key=public_key)
    except (ValueError, TypeError, AttributeError) as problem:
        raise _bad_key(public_key, problem, "ec -in KEY.pem -pubout -out PUBLIC.pem") from problem
    ignored = _ignored(path)
    if ignored != [SIGNATURE]:
        # The library leaves out whatever the signature tells it to, which would let anything be added.
        raise DataError("wrong-signature", f"leaves out {', '.join(ignored) or 'nothing'}", where=where,
                        hint=f"a signature must be over all files but {SIGNATURE}")  # fmt: skip
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # the library warns there of signatures of its old form
            config.set_hashing_config(_hashing()).verify(folder, path)
    except Exception as problem:
        why = _why(problem)
        raise DataError(
            "wrong-signature", why, where=where, hint="the files or the key are not the signer's"
        ) from problem


def _hashing() -> Any:
    hashing = _module("hashing").Config().use_file_serialization(max_workers=1)
    return hashing.set_ignored_paths(paths=[SIGNATURE], ignore_git_paths=False)


def _ignored(path: Path) -> list[str]:
    """Which files the signature says that it leaves out.

    Raises:
        DataError: it is not a signature.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError("too large")
        bundle = json.loads(path.read_bytes())
        # The library would also take the envelope under another spelling, beside the one that is looked at here.
        if set(bundle) != {"mediaType", "verificationMaterial", "dsseEnvelope"}:
            raise ValueError("is not a sigstore bundle of an envelope")
        payload = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"], validate=True))
        found = payload["predicate"]["serialization"]["ignore_paths"]
        return sorted(str(name) for name in found)
    except (OSError, ValueError, KeyError, TypeError, binascii.Error, RecursionError) as problem:
        raise DataError("wrong-signature", f"is not a signature: {' '.join(str(problem).split())[:100]}",
                        where=str(path), hint="pack the submission again with --sign KEY.pem") from problem  # fmt: skip


def _why(problem: Exception) -> str:
    """What the library says, in words for a person: it prints digests as Python does, and calls folders models."""
    # A digest that has a quote in it makes Python escape those of the whole message.
    text = " ".join(str(problem).replace("\\'", "'").split())
    if type(problem).__name__ == "InvalidSignature":
        return "the signature does not fit what it is over"
    changed = re.findall(r"Hash mismatch for '([^']*)'", text)
    others = re.findall(r"(Extra|Missing) files (?:found )?in model '[^']*': ([^'\"]*)", text)
    found = [f"{', '.join(changed)} changed"] if changed else []
    found += [f"{files} {'came in' if what == 'Extra' else 'went away'}" for what, files in others]
    return f"since it was signed, {'; '.join(found)}"[:400] if found else (text or type(problem).__name__)[:400]


def _module(name: str) -> Any:
    try:
        return importlib.import_module(f"model_signing.{name}")
    except ImportError as problem:
        raise UsageError("missing-extra", f"signatures need model-signing: {problem}", where="--sign",
                         hint='pip install "unlearnbench[signing]"') from problem  # fmt: skip


def _read_key(key: Path) -> bytes:
    try:
        return key.read_bytes()
    except OSError as problem:
        raise DataError("missing-file", f"cannot be read: {problem.strerror}", where=str(key),
                        hint="name a key in PEM form") from problem  # fmt: skip


def _bad_key(key: Path, problem: Exception, how: str) -> UsageError:
    # It asks every key for its curve, and other kinds of keys have none.
    text = "it is of another kind" if isinstance(problem, AttributeError) else " ".join(str(problem).split())[:160]
    return UsageError("bad-key", f"is not a key that can be used here: {text}", where=str(key),
                      hint=f"an unencrypted EC key in PEM form is needed: openssl {how}")  # fmt: skip
