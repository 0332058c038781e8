from __future__ import annotations

import socket

import pytest
from support.http_server import Answer, serve

from imil_backend.errors import ImageError
from imil_backend.label_studio.api.client import LabelStudio
from imil_backend.label_studio.http.addresses import AllowedHosts

TOKEN = "0123456789abcdef" * 2 + "01234567"
FORBIDDEN = [
    "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.1.2.3", "172.17.0.1", "192.168.0.1", "169.254.169.254",
    "100.64.0.1", "224.0.0.1", "::1", "fe80::1", "fd00:ec2::254", "::ffff:127.0.0.1", "2002:7f00:1::",
    "192.0.0.192", "192.88.99.1", "168.63.129.16", "3fff::1", "5f00::1",
    "64:ff9b::7f00:1", "2130706433", "0x7f000001", "fec0::1", "feff::1", "::127.0.0.1", "::7f00:1",
    "::ffff:0:127.0.0.1", "64:ff9b:1::7f00:1",
]  # fmt: skip


@pytest.mark.parametrize("host", FORBIDDEN)
def test_only_public_addresses_are_asked_unless_told_otherwise(host: str) -> None:
    with pytest.raises(ImageError, match=r"not a public address.*IMIL_IMAGE_HOSTS"):
        AllowedHosts().resolve(host, 80)


def test_public_addresses_are_allowed_unless_a_list_leaves_them_out() -> None:
    assert AllowedHosts().resolve("8.8.8.8", 443) == "8.8.8.8"
    assert AllowedHosts(["public", "10.0.0.0/8"]).resolve("8.8.8.8", 443) == "8.8.8.8"
    with pytest.raises(ImageError, match="not in the list"):
        AllowedHosts(["10.0.0.0/8"]).resolve("8.8.8.8", 443)


@pytest.mark.parametrize("entry", ["127.0.0.1", "127.0.0.1:80", "127.0.0.0/8"])
def test_hosts_and_networks_can_be_allowed(entry: str) -> None:
    assert AllowedHosts([entry]).resolve("127.0.0.1", 80) == "127.0.0.1"


def test_a_host_that_is_allowed_on_one_port_is_not_on_another() -> None:
    with pytest.raises(ImageError):
        AllowedHosts(["127.0.0.1:80"]).resolve("127.0.0.1", 6379)


def test_nothing_of_another_host_is_asked_by_a_task_or_a_redirect() -> None:
    with serve(lambda _: Answer(200, b"secret")) as inside:
        moved = Answer(302, b"", {"Location": f"{inside.url}/latest/meta-data/"})
        with serve(lambda _: moved) as server:
            labels = LabelStudio(server.url, TOKEN)
            for address in ("/data/upload/1/image.png", f"{inside.url}/", inside.url.replace("http:", "")):
                with pytest.raises(ImageError):
                    labels.download(address)
        assert inside.asked == []


def test_the_address_that_was_checked_is_the_one_that_is_connected_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A name that means a public address when it is asked first and this machine's afterwards."""
    answers = ["8.8.8.8", "127.0.0.1"]
    real, connected = socket.getaddrinfo, []

    def rebinding(host: str, *arguments: object, **options: object) -> object:
        return real(answers.pop(0) if host == "rebinding.test" else host, *arguments, **options)  # type: ignore[arg-type]

    def refuse(_: socket.socket, address: tuple[str, int]) -> None:
        connected.append(address[0])
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr("imil_backend.label_studio.http.transport.RETRY.total", 0)
    with pytest.raises(ImageError):
        LabelStudio("http://127.0.0.1:1", TOKEN).download("http://rebinding.test/image.png")
    assert set(connected) == {"8.8.8.8"}
