"""Content Credentials: signed video verifies with the package's own reader, and any changed frame breaks it."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import av
import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from model.errors import InputError
from model.provenance.credentials import SYNTHETIC_SOURCE, Origin, VideoSigner, read_credentials
from stream_server.cli import main
from stream_server.worker.egress import Picture, Sound
from stream_server.worker.sinks.socket_media import FragmentedMp4

REASON = "c2pa-python is not installed: pip install 'nerf-lipsync[credentials]'"
ORIGIN = Origin(avatar="default", field_hash="57c57e00", consent_hash="a6497f3b", licence="Apache-2.0", instance=77)


@pytest.fixture
def c2pa() -> object:
    return pytest.importorskip("c2pa", reason=REASON)


def certificate(
    name: str, key: object, issuer: str, issuer_key: object, *, ca: bool, email: bool = True
) -> x509.Certificate:
    def named(text: str) -> x509.Name:
        organisation = x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Test studio")
        return x509.Name([organisation, x509.NameAttribute(NameOID.COMMON_NAME, text)])

    off = dict.fromkeys(
        "content_commitment key_encipherment data_encipherment key_agreement encipher_only decipher_only".split(), False
    )
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(named(name))
        .issuer_name(named(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=9))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(digital_signature=not ca, key_cert_sign=ca, crl_sign=ca, **off), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    if email and not ca:
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(c.public_bytes(serialization.Encoding.PEM) for c in certificates)


def private_pem(key: object) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def write_chain(folder: Path, key: object, *, email: bool = True) -> tuple[Path, Path, Path]:
    """chain.pem, key.pem and root.pem of an authority made for the test."""
    root_key = ec.generate_private_key(ec.SECP256R1())
    root = certificate("Test root", root_key, "Test root", root_key, ca=True)
    signer = certificate("Signer", key, "Test root", root_key, ca=False, email=email)
    files = {"chain.pem": pem(signer, root), "key.pem": private_pem(key), "root.pem": pem(root)}
    for name, data in files.items():
        (folder / name).write_bytes(data)
    chain, secret, anchors = (folder / name for name in files)
    return chain, secret, anchors


@pytest.fixture
def chain(tmp_path: Path) -> tuple[Path, Path, Path]:
    return write_chain(tmp_path, ec.generate_private_key(ec.SECP256R1()))


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "plain.mp4"
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for seed in range(10):
            data = np.random.default_rng(seed).integers(16, 235, (96, 64), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(data, format="yuv420p")))
        container.mux(stream.encode(None))
    return path


@pytest.fixture
def signed(c2pa: object, chain: tuple[Path, Path, Path], video: Path) -> Path:
    out = video.with_name("signed.mp4")
    VideoSigner(*chain[:2]).sign(video, out, ORIGIN)
    return out


def first_frame_byte(data: bytes) -> int:
    """A byte inside the coded frames: in the middle of the media data box."""
    at = data.index(b"mdat")
    return at + int.from_bytes(data[at - 4 : at], "big") // 2


def test_signed_video_says_what_it_is(signed: Path, chain: tuple[Path, Path, Path]) -> None:
    found = read_credentials(signed, anchors=chain[2])
    assert found is not None
    assert (found.state, found.problems) == ("Trusted", ())
    assert found.signed_by == "Signer, Test studio"
    assert (found.source_type, found.software) == (SYNTHETIC_SOURCE, "NeRF-LipSync")
    assert dict(found.origin) == {
        "avatar": "default",
        "field_hash": "57c57e00",
        "consent_hash": "a6497f3b",
        "licence": "Apache-2.0",
        "instance": 77,
    }


def test_the_packages_own_reader_agrees(signed: Path, c2pa: object) -> None:
    with signed.open("rb") as file, c2pa.Reader("video/mp4", file) as reader:
        assert reader.get_validation_state() == "Valid"
        assert [item["code"] for item in json.loads(reader.json())["validation_status"]] == [
            "signingCredential.untrusted"
        ]


def test_the_signed_video_still_plays(signed: Path, video: Path) -> None:
    def frames(path: Path) -> list[np.ndarray]:
        with av.open(str(path)) as container:
            return [frame.to_ndarray() for frame in container.decode(video=0)]

    np.testing.assert_array_equal(frames(signed), frames(video))


def test_one_changed_byte_of_a_frame_breaks_it(signed: Path, chain: tuple[Path, Path, Path]) -> None:
    data = bytearray(signed.read_bytes())
    data[first_frame_byte(bytes(data))] ^= 1
    signed.write_bytes(data)
    found = read_credentials(signed, anchors=chain[2])
    assert found is not None
    assert (found.state, found.problems) == ("Invalid", ("assertion.bmffHash.mismatch",))


def test_another_root_is_not_trusted(signed: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    _, _, root = write_chain(other, ec.generate_private_key(ec.SECP256R1()))
    found = read_credentials(signed, anchors=root)
    assert found is not None
    assert (found.state, found.problems) == ("Valid", ("signingCredential.untrusted",))


def test_video_without_credentials_has_none(c2pa: object, video: Path) -> None:
    assert read_credentials(video) is None


@pytest.mark.parametrize("kind", ["p384", "ed25519", "rsa"])
def test_other_kinds_of_key_sign(c2pa: object, kind: str, tmp_path: Path, video: Path) -> None:
    key = {
        "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
        "ed25519": ed25519.Ed25519PrivateKey.generate,
        "rsa": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
    }[kind]()
    chain, secret, root = write_chain(tmp_path, key)
    VideoSigner(chain, secret).sign(video, tmp_path / "signed.mp4", ORIGIN)
    found = read_credentials(tmp_path / "signed.mp4", anchors=root)
    assert found is not None and found.state == "Trusted"


def test_what_cannot_sign_is_refused_at_once(c2pa: object, chain: tuple[Path, Path, Path], tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    other.write_bytes(private_pem(ec.generate_private_key(ec.SECP256R1())))
    with pytest.raises(InputError, match=r"other\.pem is not the key of the first certificate"):
        VideoSigner(chain[0], other)
    with pytest.raises(InputError, match="must be a PEM private key"):
        VideoSigner(chain[0], chain[2])
    with pytest.raises(InputError, match="holds no PEM certificates"):
        VideoSigner(chain[1], chain[1])
    with pytest.raises(InputError, match="cannot read the private key"):
        VideoSigner(chain[0], tmp_path / "none.pem")
    chain, key, _ = write_chain(tmp_path, ec.generate_private_key(ec.SECP256R1()), email=False)
    with pytest.raises(InputError, match="extended key usage"):
        VideoSigner(chain, key)


def test_without_the_package_the_message_says_how_to_get_it(
    chain: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "c2pa", None)
    with pytest.raises(InputError, match=r"pip install 'nerf-lipsync\[credentials\]'"):
        VideoSigner(*chain[:2])


def test_the_command_tells_whole_from_broken(
    signed: Path, video: Path, chain: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["mark", "credentials", str(signed), "--anchors", str(chain[2])]) == 0
    said = capsys.readouterr().out
    assert "Trusted" in said and "Signer" in said and "trainedAlgorithmicMedia" in said and "a6497f3b" in said
    assert main(["mark", "credentials", str(video)]) == 1
    assert "no Content Credentials" in capsys.readouterr().out
    data = bytearray(signed.read_bytes())
    data[first_frame_byte(bytes(data))] ^= 1
    signed.write_bytes(data)
    assert main(["mark", "credentials", str(signed)]) == 1
    assert "assertion.bmffHash.mismatch" in capsys.readouterr().out


def test_a_recording_is_signed_in_its_place(
    c2pa: object, chain: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Fragmented MP4, as `serve --record` writes it."""
    made = FragmentedMp4(size=64, fps=25)
    image = np.full((96, 64), 90, np.uint8)
    parts = []
    for index in range(50):
        image[:64] = index * 4
        parts.append(made.encode_file(Picture(index, image, None, index * 40_000_000)))
        sounds = (Sound((2 * index + block) * 960, np.zeros(960, np.int16)) for block in range(2))
        parts += [made.encode_file(sound) for sound in sounds]
    path = tmp_path / "call.mp4"
    path.write_bytes(b"".join([*parts, made.finish()]))
    path.chmod(0o600)
    certificates, key, root = chain
    assert main(["mark", "sign", str(path), "--sign-cert", str(certificates), "--sign-key", str(key)]) == 0
    found = read_credentials(path, anchors=root)
    assert found is not None
    assert (found.state, path.stat().st_mode & 0o777) == ("Trusted", 0o600)
    with av.open(str(path)) as container:
        assert len(list(container.decode(video=0))) == 50
    data = bytearray(path.read_bytes())
    data[data.index(b"mdat") + 40] ^= 1
    path.write_bytes(data)
    broken = read_credentials(path)
    assert broken is not None
    assert broken.state == "Invalid"
    assert [file.name for file in tmp_path.glob(".*")] == []
