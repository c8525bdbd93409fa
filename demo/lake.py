"""The tour's scene on S3: pandas and DuckDB through `envelope::`, with no change but a string."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import duckdb
import fsspec
import pandas as pd

import envelope
from envelope.errors import EnvelopeError

__all__ = ["scene"]


def scene(frame: pd.DataFrame, key: str, say: Callable[[str], None]) -> None:
    """Write to an encrypted lake on S3, query it, and try to cheat.

    Args:
        frame: The flights.
        key: The master key of the lake.
        say: Announces a step.
    """
    with s3() as store:
        fsspec.filesystem("s3", **store).call_s3("create_bucket", Bucket="lake")
        options = {"keys": key, "s3": store}

        say("A lake on S3: pandas writes a partitioned dataset, to envelope::s3://lake/flights.")
        target = "envelope::s3://lake/flights"
        frame.to_parquet(target, partition_cols=["origin"], storage_options=options)
        fs = envelope.filesystem("s3", keys=key, **store)
        for path, info in fs.find("lake/flights", detail=True).items():
            print(f"   {path[:36]}…  {info['size']:>9,} bytes, {info['stored_size']:>9,} stored")

        say("DuckDB queries it: it reads the columns that it needs, and decrypts their segments.")
        duckdb.register_filesystem(fs)
        found = duckdb.sql(
            f"select origin, count(*) as flights, round(avg(dep_delay), 1) as delay "
            f"from read_parquet('{target}/*/*.parquet', hive_partitioning = true) "
            "group by origin order by origin"
        ).df()
        print("   " + found.to_string(index=False).replace("\n", "\n   "))
        if found["flights"].sum() != len(frame):
            raise SystemExit("rows are missing")

        say("What lies in the bucket is ciphertext.")
        raw = fs.fs
        first = raw.find("lake/flights")[0]
        print(f"   {raw.cat_file(first, start=0, end=60)!r}")

        say("A rule binds files to an airport's folder; then one is copied over another's.")
        rules = [{"match": "{airport}/**", "keys": key, "context": {"airport": "{airport}"}}]
        tenants = envelope.filesystem("s3", rules=rules, root="lake/airports", **store)
        for airport in ("jfk", "lga"):
            rows = frame[frame["origin"] == airport.upper()]
            tenants.pipe_file(f"lake/airports/{airport}/flights.csv", rows.to_csv().encode())
        raw.cp_file("lake/airports/jfk/flights.csv", "lake/airports/lga/flights.csv")
        try:
            tenants.cat_file("lake/airports/lga/flights.csv")
        except EnvelopeError as error:
            print(f"   {error}")
        else:
            raise SystemExit("it was accepted")


@contextmanager
def s3() -> Iterator[dict[str, Any]]:
    """A server of S3 on this machine, and the options with which s3fs reaches it."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield {"endpoint_url": f"http://{host}:{port}", "key": "demo", "secret": "demo"}
    finally:
        server.stop()
