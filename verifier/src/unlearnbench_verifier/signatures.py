"""Who answers for a certificate: ed25519 over all of it. Needs the package cryptography, which is optional."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from unlearnbench_verifier.files import canonical, read_bytes
from unlearnbench_verifier.findings import Finding, Refusal, Unreadable
from unlearnbench_verifier.form import parse_signature, unsigned

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

INSTALL = "install cryptography"

PRIME = 2**255 - 19
SMALL_ORDER = frozenset(
    (
        0,
        1,
        PRIME - 1,
        int.from_bytes(bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little"),
        int.from_bytes(bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"), "little"),
    )
)
"""The y of the points of ed25519 whose order divides 8; each is -y of another, and x has either sign."""


def sign(document: Mapping[str, Any], private_key_path: str | os.PathLike[str]) -> dict[str, Any]:
    """A copy of a certificate with a signature by the ed25519 key in a PEM file (PKCS #8, not encrypted).

    Raises:
        Unreadable: no such file, or no such key in it.
        Refusal: ``missing-package``, cryptography is not installed.
    """
    key = _private_key(private_key_path)
    signature = {
        "algorithm": "ed25519",
        "public_key": key.public_key().public_bytes_raw().hex(),
        "value": key.sign(canonical(unsigned(document))).hex(),
    }
    return {**document, "signature": signature}


def check_signature(document: Mapping[str, Any]) -> Finding:
    """Whether a certificate is what the key in its signature has signed; None where there is no signature to check."""
    signature = parse_signature(document.get("signature"))
    if signature is None:
        return Finding("signature", "not signed", None)
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError:
        return Finding("signature", f"not looked at: {INSTALL}", None)
    owner = signature.public_key.hex()
    if _is_of_small_order(signature.public_key):
        return Finding("signature", f"key {owner} is of small order: such a key has signed everything", False)
    try:
        Ed25519PublicKey.from_public_bytes(signature.public_key).verify(signature.value, canonical(unsigned(document)))
    except (InvalidSignature, ValueError):
        return Finding("signature", f"key {owner} did not sign this", False)
    return Finding("signature", f"by key {owner}; ask the owner whether it is theirs", True)


def _is_of_small_order(public_key: bytes) -> bool:
    """Whether a key is one of the eight points under which a signature can hold for any document."""
    y = int.from_bytes(public_key, "little") & ~(1 << 255)
    return y % PRIME in SMALL_ORDER


def _private_key(path: str | os.PathLike[str]) -> Ed25519PrivateKey:
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
    except ImportError:
        raise Refusal("missing-package", "signing needs the package cryptography", hint=INSTALL) from None
    hint = "make one with openssl genpkey -algorithm ed25519"
    try:
        key = load_pem_private_key(read_bytes(path, 2**16), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        message = "holds no private key as PEM that is not encrypted"
        raise Unreadable("bad-key", message, where=str(path), hint=hint) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise Unreadable("bad-key", "holds a private key that is none of ed25519", where=str(path), hint=hint)
    return key
