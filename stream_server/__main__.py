"""`python -m stream_server` is the same as `nerf-lipsync`."""

from __future__ import annotations

import sys

from stream_server.cli import main

if __name__ == "__main__":
    sys.exit(main())
