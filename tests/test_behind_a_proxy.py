"""The real Label Studio behind a real nginx: a sub-path, TLS by a CA of one's own, Basic auth."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from loop.loop_fakes import make_backend
from support.label_studio import RunningLabelStudio, missing
from support.nginx import running_nginx
from support.push import png

from imil_backend.errors import LabelStudioAuthError, LabelStudioUnreachableError
from imil_backend.label_studio.api.client import LabelStudio
from imil_backend.label_studio.labeling.label_config import load_label_config
from imil_backend.loop.upkeep.check_results import State
from imil_backend.loop.upkeep.doctor import examine

pytestmark = pytest.mark.label_studio
SERVER = """
    listen 127.0.0.1:{port} ssl;
    ssl_certificate {folder}/certificate.pem; ssl_certificate_key {folder}/key.pem;
    location /labelling/ {{ proxy_pass {label_studio}/; }}
    location /locked/ {{
      auth_basic "clinic"; auth_basic_user_file {folder}/users; proxy_pass {label_studio}/;
      location ~ ^/locked/((api|data|tasks)/.*)$ {{
        auth_basic off; proxy_pass {label_studio}/$1$is_args$args;
      }}
    }}
    location /shut/ {{
      auth_basic "clinic"; auth_basic_user_file {folder}/users; proxy_pass {label_studio}/;
    }}
"""


@dataclass(frozen=True)
class Proxy:
    url: str
    ca: Path


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory, label_studio: RunningLabelStudio) -> Iterator[Proxy]:
    if shutil.which("openssl") is None:
        missing("openssl", "PATH")
    folder = tmp_path_factory.mktemp("nginx")
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "certificate.pem")]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject, *files],
        check=True,
        capture_output=True,
    )
    with running_nginx(folder, SERVER, label_studio=label_studio.url) as port:
        yield Proxy(f"https://127.0.0.1:{port}", folder / "certificate.pem")


def client(proxy: Proxy, path: str, token: str, ca: bool = True) -> LabelStudio:
    return LabelStudio(proxy.url + path, token, ca=proxy.ca if ca else None)


@pytest.mark.parametrize("path", ["/labelling", "/locked"])
@pytest.mark.parametrize("kind", ["legacy", "personal"])
def test_both_kinds_of_token_pass(
    proxy: Proxy, label_studio: RunningLabelStudio, path: str, kind: str
) -> None:
    token = label_studio.api_key if kind == "legacy" else label_studio.personal_access_token
    labels = client(proxy, path, token)
    project = labels.create_project("proxied", load_label_config("blackout"), "")
    image = labels.upload_image(project, "a.png", png())
    assert labels.download(image) == png()
    assert labels.download(proxy.url + path + image) == png()


def test_a_certificate_of_an_unknown_ca_is_refused(proxy: Proxy, label_studio: RunningLabelStudio) -> None:
    with pytest.raises(LabelStudioUnreachableError, match="IMIL_LABEL_STUDIO_CA"):
        client(proxy, "/labelling", label_studio.api_key, ca=False).project(1)


@pytest.mark.parametrize("kind", ["legacy", "personal"])
def test_basic_auth_on_the_api_is_refused_with_what_to_change(
    proxy: Proxy, label_studio: RunningLabelStudio, kind: str
) -> None:
    token = label_studio.api_key if kind == "legacy" else label_studio.personal_access_token
    with pytest.raises(LabelStudioAuthError, match="Exempt /api/, /data/ and /tasks/ in the proxy"):
        client(proxy, "/shut", token).project(1)


@pytest.mark.parametrize(
    ("scheme", "path", "subject", "words"),
    [
        ("https", "/labelling", "token", "A legacy token"),
        ("https", "", "Label Studio's URL", "with its sub-path"),
        ("http", "/labelling", "Label Studio's URL", "http:// included"),
        ("https", "/shut", "token", "Exempt /api/, /data/ and /tasks/ in the proxy"),
        ("no CA", "/labelling", "Label Studio's URL", "set IMIL_LABEL_STUDIO_CA to the CA's file"),
    ],
)
def test_the_doctor_says_what_to_change(
    tmp_path: Path,
    proxy: Proxy,
    label_studio: RunningLabelStudio,
    scheme: str,
    path: str,
    subject: str,
    words: str,
) -> None:
    url = proxy.url.replace("https", "http") if scheme == "http" else proxy.url
    backend = make_backend(
        tmp_path,
        label_studio_url=url + path,
        label_studio_api_key=label_studio.api_key,
        label_studio_ca=None if scheme == "no CA" else proxy.ca,
    )
    found = {result.subject: result for result in examine(backend, probe=False)}
    backend.close()
    assert words in found[subject].text
    assert found[subject].state is (State.OK if path == "/labelling" and scheme == "https" else State.FAILED)
