"""`leveret data confirm`: tells a running node that somebody knows what it has lost. An HTTP client of the management
API."""

from __future__ import annotations

import argparse
import base64
import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence

TIMEOUT_S = 30.0
EXIT_FAILED = 1


def confirm(argv: Sequence[str]) -> int:
    """The exit code: 0 when the node has confirmed, 1 when it refused or could not be reached."""
    parser = argparse.ArgumentParser(
        prog="leveret data confirm", description="Tell a node that what it has lost is known."
    )
    parser.add_argument("--host", default="127.0.0.1", help="of the management port (%(default)s)")
    parser.add_argument("--port", type=int, default=15672, help="the management port (%(default)s)")
    parser.add_argument("--user", default="guest", help="an administrator (%(default)s)")
    parser.add_argument(
        "--password", default=os.environ.get("LEVERET_PASSWORD", "guest"), help="or in LEVERET_PASSWORD (guest)"
    )
    options = parser.parse_args(argv)
    url = f"http://{options.host}:{options.port}/api/leveret/data/confirm"
    credentials = base64.b64encode(f"{options.user}:{options.password}".encode()).decode()
    request = urllib.request.Request(url, data=b"", method="POST", headers={"Authorization": f"Basic {credentials}"})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
            count = json.loads(response.read())["confirmed"]
    except urllib.error.HTTPError as error:
        print(f"leveret: {url}: {error.code} {error.read().decode('utf-8', 'replace')}", file=sys.stderr)
        return EXIT_FAILED
    except (OSError, ValueError, KeyError) as error:
        print(f"leveret: {url}: {error}", file=sys.stderr)
        return EXIT_FAILED
    print(f"{count} losses confirmed")
    return 0
