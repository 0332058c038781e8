"""A real nginx of Debian's packages for the tests, to stand before a server."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.conditions import wait_until
from support.label_studio import free_port, is_listening, missing

USER, PASSWORD = "alice", "secret"  # of Basic auth, in the file {folder}/users
_CONFIG = """
user root; pid {folder}/pid; error_log {folder}/error.log; daemon off;
events {{}}
http {{
  access_log off; client_max_body_size 100m;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{
{server}
  }}
}}
"""


@contextmanager
def running_nginx(folder: Path, server: str, **values: object) -> Iterator[int]:
    """Start nginx; skips, or fails in CI, where it is not installed.

    Args:
        folder: for its files.
        server: its server's part of the configuration, in which {port}, {folder} and `values` are filled in.

    Returns:
        The port that it listens on.
    """
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if nginx is None:
        missing("nginx", "PATH")
    port = free_port()
    (folder / "users").write_text(f"{USER}:{{PLAIN}}{PASSWORD}\n")
    config = folder / "nginx.conf"
    config.write_text(_CONFIG.format(folder=folder, server=server.format(folder=folder, port=port, **values)))
    with subprocess.Popen([str(nginx), "-p", str(folder), "-c", str(config)]) as process:
        try:
            wait_until(lambda: is_listening(port) or process.poll() is not None, 30)
            assert process.poll() is None, (folder / "error.log").read_text()
            yield port
        finally:
            process.terminate()
