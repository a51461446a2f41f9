"""Container health check: exit code 0 if callers can be served. `NERF_LIPSYNC_HEALTH_URL` and `..._HOST` override.

A server with --allowed-host answers to those names only, so the check must ask by one of them.
"""

from __future__ import annotations

import os
import sys
import urllib.error
import urllib.request


def main() -> int:
    """Ask /readyz; a server that is full is healthy, one that is loading is not."""
    url = os.environ.get("NERF_LIPSYNC_HEALTH_URL", "http://127.0.0.1:8080/readyz")
    headers = {"Host": host} if (host := os.environ.get("NERF_LIPSYNC_HEALTH_HOST")) else {}
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(urllib.request.Request(url, headers=headers), timeout=4):
            return 0
    except (OSError, urllib.error.HTTPError) as error:
        sys.stderr.write(f"{url}: {error}\n")
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
