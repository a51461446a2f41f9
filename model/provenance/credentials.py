"""Content Credentials (C2PA): a signed statement inside an MP4 of what it is, broken by any change of its frames.

`VideoSigner` signs with the operator's certificate chain and key through `c2pa-python`, which is an extra
(`nerf-lipsync[credentials]`); `read_credentials` verifies with the same package's reader.
"""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.errors import InputError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

__all__ = ["AVATAR_LABEL", "SYNTHETIC_SOURCE", "Credentials", "Origin", "VideoSigner", "read_credentials"]

SYNTHETIC_SOURCE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
AVATAR_LABEL = "org.nerf-lipsync.avatar"
INSTALL = "pip install 'nerf-lipsync[credentials]'"
_SETTINGS = {"builder": {"thumbnail": {"enabled": False}}}
_CURVES = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What the credentials say of a video beside that it is synthetic: the avatar and who agreed, by their hashes."""

    avatar: str
    field_hash: str
    consent_hash: str
    licence: str
    instance: int | None = None  # of the invisible mark


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What a reader finds. `state` is Trusted (signed below a given root), Valid (signer unknown) or Invalid."""

    state: str
    problems: tuple[str, ...]  # codes of the C2PA specification, such as assertion.bmffHash.mismatch
    signed_by: str
    source_type: str
    software: str
    origin: Mapping[str, Any]


class VideoSigner:
    """Signs MP4 files with one certificate chain."""

    def __init__(self, chain: Path, key: Path, *, tsa: str | None = None) -> None:
        """`chain`: PEM certificates, the signer's first; `key`: its PEM private key; `tsa`: a time-stamp server's URL.

        A small picture is signed at once, so that what cannot sign fails before a long rendering, not after it.

        Raises:
            InputError: The package is missing, a file cannot be read, the key is not the certificate's, or the chain
                does not meet C2PA's rules.
        """
        self._c2pa = _package()
        self._chain = _read(chain, "certificate chain")
        self._key = _read(key, "private key")
        self._tsa = tsa
        self._algorithm, self.subject = _algorithm(self._chain, self._key, chain, key)
        self._try_out(chain)

    def sign(self, source: Path, out: Path, origin: Origin) -> None:
        """Write `out`: the MP4 `source` with credentials. `source` must be another file.

        Raises:
            InputError: It cannot be signed or written, or the time-stamp server does not answer.
        """
        try:
            with source.open("rb") as read, out.open("w+b") as written:
                self._sign("video/mp4", read, written, _manifest(origin))
        except (OSError, self._c2pa.C2paError) as error:
            raise InputError(f"cannot sign {source.name}: {error}") from error

    def _sign(self, mime: str, source: Any, out: Any, manifest: dict[str, Any]) -> None:
        c2pa = self._c2pa
        info = c2pa.C2paSignerInfo(self._algorithm, self._chain, self._key, self._tsa)
        context = c2pa.Context(c2pa.Settings.from_dict(_SETTINGS))
        with c2pa.Signer.from_info(info) as signer, c2pa.Builder(json.dumps(manifest), context=context) as builder:
            builder.sign(signer, mime, source, out)

    def _try_out(self, chain: Path) -> None:
        from io import BytesIO

        origin = Origin(avatar="none", field_hash="", consent_hash="", licence="")
        try:
            self._sign("image/png", BytesIO(_tiny_png()), BytesIO(), _manifest(origin))
        except self._c2pa.C2paError as error:
            raise InputError(
                f"cannot sign with {chain}: {error}; the first certificate must be the signer's, not self-signed, with "
                "key usage digitalSignature and extended key usage emailProtection or documentSigning"
            ) from error


def read_credentials(path: Path, *, anchors: Path | None = None) -> Credentials | None:
    """Verify a video's credentials; None where it has none. `anchors`: PEM roots whose signers are trusted.

    Raises:
        InputError: The package is missing, or a file cannot be read.
    """
    c2pa = _package()
    trust = {} if anchors is None else {"trust": {"user_anchors": _read(anchors, "trust anchors").decode()}}
    context = c2pa.Context(c2pa.Settings.from_dict({"verify": {"verify_trust": True}} | trust))
    try:
        with path.open("rb") as file, c2pa.Reader("video/mp4", file, context=context) as reader:
            return _credentials(json.loads(reader.json()), str(reader.get_validation_state()))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error}") from error
    except c2pa.C2paError.ManifestNotFound:
        return None
    except c2pa.C2paError as error:
        raise InputError(f"cannot read credentials from {path.name}: {error}") from error


def _credentials(store: Mapping[str, Any], state: str) -> Credentials:
    manifest = store["manifests"][store["active_manifest"]]
    found = {item["label"]: item["data"] for item in manifest.get("assertions", ())}
    actions = found.get("c2pa.actions.v2", {}).get("actions", [{}])
    signature = manifest.get("signature_info", {})
    return Credentials(
        state=state,
        problems=tuple(item["code"] for item in store.get("validation_status", ())),
        signed_by=", ".join(filter(None, (signature.get("common_name"), signature.get("issuer")))),
        source_type=str(actions[0].get("digitalSourceType", "")),
        software=str(actions[0].get("softwareAgent", {}).get("name", "")),
        origin=found.get(AVATAR_LABEL, {}),
    )


def _manifest(origin: Origin) -> dict[str, Any]:
    agent = {"name": "NeRF-LipSync", "version": importlib.metadata.version("nerf-lipsync")}
    created = {"action": "c2pa.created", "digitalSourceType": SYNTHETIC_SOURCE, "softwareAgent": agent}
    said = {name: value for name, value in asdict(origin).items() if value not in ("", None)}
    return {
        "claim_generator_info": [agent],
        "title": "Synthetic video",
        "assertions": [
            {"label": "c2pa.actions.v2", "data": {"actions": [created]}},
            {"label": AVATAR_LABEL, "data": said},
        ],
    }


def _algorithm(chain: bytes, key: bytes, chain_path: Path, key_path: Path) -> tuple[str, str]:
    """C2PA's name of the key's algorithm, and whom the certificate names."""
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from cryptography.x509 import load_pem_x509_certificates

    try:
        certificates = load_pem_x509_certificates(chain)
    except ValueError as error:
        raise InputError(f"{chain_path} holds no PEM certificates: {error}") from error
    try:
        private = load_pem_private_key(key, password=None)
    except (ValueError, TypeError) as error:
        raise InputError(f"{key_path} must be a PEM private key without passphrase: {error}") from error
    if private.public_key() != certificates[0].public_key():
        raise InputError(f"{key_path} is not the key of the first certificate in {chain_path}")
    return _algorithm_of(private, key_path), certificates[0].subject.rfc4514_string()


def _algorithm_of(private: PrivateKeyTypes, path: Path) -> str:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    if isinstance(private, ed25519.Ed25519PrivateKey):
        return "ed25519"
    if isinstance(private, rsa.RSAPrivateKey):
        return "ps256"
    if isinstance(private, ec.EllipticCurvePrivateKey) and private.curve.name in _CURVES:
        return _CURVES[private.curve.name]
    raise InputError(f"{path}: a signing key is Ed25519, RSA, or EC on P-256, P-384 or P-521, got {type(private)}")


def _tiny_png() -> bytes:
    import av
    import numpy as np

    codec: Any = av.CodecContext.create("png", "w")
    codec.width = codec.height = 8
    codec.pix_fmt = "rgb24"
    codec.framerate = 1
    frame = av.VideoFrame.from_ndarray(np.zeros((8, 8, 3), np.uint8), format="rgb24")
    return b"".join(bytes(packet) for packet in [*codec.encode(frame), *codec.encode(None)])


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read the {what} {path}: {error}") from error


def _package() -> Any:
    try:
        import c2pa
    except ImportError as error:
        raise InputError(f"Content Credentials need the package c2pa-python: {INSTALL}") from error
    return c2pa
