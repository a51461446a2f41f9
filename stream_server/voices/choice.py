"""Which voices there are here, and the one that a caller asked for."""

from __future__ import annotations

import json
import logging
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from stream_server.errors import VoiceError
from stream_server.voices.file_program import FliteVoice
from stream_server.voices.program import ProgramVoice
from stream_server.voices.service import ServiceVoice
from stream_server.voices.voice import Voice

__all__ = ["VoiceSettings", "choose_voice", "list_voices"]

log = logging.getLogger(__name__)

_ESPEAK_NAME = re.compile(r"[a-z]{2,3}(-[a-z0-9]{2,10})*(\+[a-z0-9]{1,10})?")
_DEFAULT_ESPEAK = "en-us"


@dataclass(frozen=True, slots=True, kw_only=True)
class VoiceSettings:
    """What the operator set: a piper model, a speech service. Programs that are installed need no setting."""

    piper_model: str | None = None
    speech_url: str | None = None
    speech_model: str = "tts-1"
    speech_voice: str = "alloy"
    speech_key: str | None = None


def list_voices(settings: VoiceSettings) -> list[str]:
    """Families that can speak here, the preferred one first."""
    found = []
    if settings.speech_url:
        found.append("service")
    if settings.piper_model and shutil.which("piper"):
        found.append("piper")
    if shutil.which("espeak-ng"):
        found.append("espeak-ng")
    if shutil.which("flite"):
        found.append("flite")
    return found


def choose_voice(settings: VoiceSettings, name: str | None) -> Voice:
    """The voice `name`: a family, or for espeak-ng `espeak-ng:de` and the like; None: the preferred one.

    Raises:
        VoiceError: No voice is installed, or not this one.
    """
    known = list_voices(settings)
    if not known:
        raise VoiceError("no voice is installed: install espeak-ng, or start the server with --speech-url")
    family, _, detail = (name or known[0]).partition(":")
    if family not in known:
        raise VoiceError(f"there is no voice {family[:40]!r} here; there is {', '.join(known)}")
    if family == "service":
        return ServiceVoice(
            settings.speech_url or "",
            model=settings.speech_model,
            voice=detail or settings.speech_voice,
            key=settings.speech_key,
        )
    if family == "piper":
        return _piper(settings.piper_model or "")
    if family == "flite":
        return FliteVoice()
    if detail and not _ESPEAK_NAME.fullmatch(detail):
        raise VoiceError(f"espeak-ng has no voice {detail[:40]!r}; it is a language such as en-us, de or fr+f3")
    return ProgramVoice(["espeak-ng", "--stdout", "-v", detail or _DEFAULT_ESPEAK, "--stdin"])


def _piper(model: str) -> Voice:
    """Raw samples at the rate that the model's own JSON states."""
    config = Path(model + ".json")
    try:
        rate_hz = int(json.loads(config.read_text())["audio"]["sample_rate"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("cannot read the sample rate of the piper voice from %s: %s", config, error)
        told = "the piper voice cannot be used: its JSON has no sample rate; the server's log says more"
        raise VoiceError(told) from error  # callers need not know where it lies
    return ProgramVoice(["piper", "--model", model, "--output-raw"], rate_hz=rate_hz)
