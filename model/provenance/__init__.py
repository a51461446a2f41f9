"""Honest by construction: who agreed to an avatar, and the marks that say a picture is synthetic."""
