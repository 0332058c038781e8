"""Simulated clouds (S3, Google Cloud Storage, Azure), each with two images that Label Studio can reach.

The emulators are imported in the fixtures, so that tests without a cloud run without them.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
from support.http_server import Answer, serve
from support.label_studio import RunningLabelStudio, free_port
from support.push import png

if TYPE_CHECKING:
    from azure.storage.blob import BlobServiceClient

# The emulator's own, published by Microsoft.
AZURE_ACCOUNT = "devstoreaccount1"
AZURE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
AZURITE = "azurite@3.33"  # later ones need a newer Node.js than Debian has
IMAGES = {f"scans/{number}.png": png(seed=number) for number in range(2)}
NAME = "films"  # of the bucket or container


@dataclass(frozen=True)
class Cloud:
    """What one enters in Label Studio to read its images.

    Attributes:
        kind: s3, gcs or azure, as in Label Studio's API.
        scheme: of its images' addresses.
        place: where they are.
        keys: the credentials.
    """

    kind: str
    scheme: str
    place: dict[str, Any]
    keys: dict[str, str]


@pytest.fixture
def s3() -> Iterator[Cloud]:
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url, region = f"http://{host}:{port}", "us-east-1"
    keys = {"aws_access_key_id": "simulated", "aws_secret_access_key": "simulated"}
    client = boto3.client("s3", endpoint_url=url, region_name=region, **keys)
    client.create_bucket(Bucket=NAME)
    for name, content in IMAGES.items():
        client.put_object(Bucket=NAME, Key=name, Body=content)
    place = {"bucket": NAME, "prefix": "scans", "s3_endpoint": url, "region_name": region}
    yield Cloud("s3", "s3", place, keys)
    server.stop()


@pytest.fixture
def gcs(label_studio: RunningLabelStudio) -> Iterator[Cloud]:
    from gcp_storage_emulator.server import create_server

    url = f"http://127.0.0.1:{label_studio.gcs_port}"
    token = Answer(body={"access_token": "simulated", "expires_in": 3600, "token_type": "Bearer"})
    with (
        create_server("127.0.0.1", label_studio.gcs_port, in_memory=True, default_bucket=NAME),
        serve(lambda _: token) as tokens,
    ):
        for name, content in IMAGES.items():
            uploaded = requests.post(
                f"{url}/upload/storage/v1/b/{NAME}/o",
                params={"uploadType": "media", "name": name},
                headers={"Content-Type": "image/png"},
                data=content,
                timeout=30,
            )
            uploaded.raise_for_status()
        account = {
            "type": "service_account",
            "client_email": "simulated@simulated.example",
            "token_uri": tokens.url,
            "private_key": _private_key(),
        }
        keys = {"google_application_credentials": json.dumps(account)}
        yield Cloud("gcs", "gs", {"bucket": NAME, "prefix": "scans"}, keys)


def _private_key() -> str:
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@pytest.fixture
def azure(azurite: Path) -> Iterator[Cloud]:
    from azure.storage.blob import BlobServiceClient

    port = free_port()
    endpoint = f"BlobEndpoint=http://127.0.0.1:{port}/{AZURE_ACCOUNT}"
    command = [azurite, "--inMemoryPersistence", "--silent", "--skipApiVersionCheck", "--blobPort", str(port)]
    with subprocess.Popen(command) as server:
        try:
            settings = f"AccountName={AZURE_ACCOUNT};AccountKey={AZURE_KEY};{endpoint}"
            with BlobServiceClient.from_connection_string(settings, retry_total=0) as client:
                container = _when_it_answers(client)
                for name, content in IMAGES.items():
                    container.upload_blob(name, content)
            # Label Studio has no setting for the endpoint, but takes one behind the account's name.
            keys = {"account_name": f"{AZURE_ACCOUNT};{endpoint}", "account_key": AZURE_KEY}
            yield Cloud("azure", "azure-blob", {"container": NAME, "prefix": "scans"}, keys)
        finally:
            server.terminate()


def _when_it_answers(client: BlobServiceClient, seconds: float = 60) -> Any:
    from azure.core.exceptions import AzureError

    deadline = time.monotonic() + seconds
    while True:
        try:
            return client.create_container(NAME)
        except AzureError:
            assert time.monotonic() < deadline
            time.sleep(0.1)


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Microsoft's emulator of Azure's blobs, through the npm client."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed")
    folder = tmp_path_factory.mktemp("azurite")
    subprocess.run([npm, "install", "--no-audit", "--no-fund", "--prefix", folder, AZURITE], check=True)
    return folder / "node_modules" / ".bin" / "azurite-blob"
