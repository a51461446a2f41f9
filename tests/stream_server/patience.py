"""How much longer than on a quiet machine tests wait: `NERF_LIPSYNC_TEST_PATIENCE=5` where other things run as well."""

from __future__ import annotations

import os

PATIENCE = float(os.environ.get("NERF_LIPSYNC_TEST_PATIENCE", "1"))
