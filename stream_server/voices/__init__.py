"""Text to speech for assistants: programs that are installed, or a service the operator names. None is shipped."""

from stream_server.voices.choice import VoiceSettings, choose_voice, list_voices
from stream_server.voices.voice import SpokenSound, Voice

__all__ = ["SpokenSound", "Voice", "VoiceSettings", "choose_voice", "list_voices"]
