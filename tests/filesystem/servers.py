"""Servers of object stores for tests, each on a free port of loopback."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def s3() -> Iterator[dict[str, Any]]:
    """S3 as moto plays it, in this process; yields the storage options of s3fs."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield {
            "endpoint_url": f"http://{host}:{port}",
            "key": "test",
            "secret": "test",  # moto takes any
            "client_kwargs": {"region_name": "us-east-1"},
        }
    finally:
        server.stop()
        os.environ.pop("AWS_CA_BUNDLE", None)
