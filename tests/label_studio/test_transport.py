from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable

import pytest
from support.http_server import Answer, Request, serve
from support.label_studio import free_port

from imil_backend.errors import (
    ImageError,
    ImageTooLargeError,
    LabelStudioAuthError,
    LabelStudioError,
    LabelStudioUnreachableError,
    NotFoundError,
)
from imil_backend.label_studio.api.client import LabelStudio

TOKEN = "0123456789abcdef" * 2 + "01234567"


def jwt(**claims: object) -> str:
    def part(content: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()

    return f"{part({'alg': 'none'})}.{part(claims)}.signature"


PERSONAL = jwt(token_type="refresh", exp=9e9)


def client(url: str, token: str = TOKEN, **options: object) -> LabelStudio:
    return LabelStudio(url, token, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("status", "body", "error", "words"),
    [
        (401, {"detail": "Invalid token."}, LabelStudioAuthError, "does not accept the token"),
        (
            401,
            {"detail": "Authentication token no longer valid: legacy token authentication has been disabled"},
            LabelStudioAuthError,
            "Organization > Access Token Settings",
        ),
        (403, {"detail": "You do not have permission"}, LabelStudioAuthError, "may not do this"),
        (
            403,
            {"detail": "URL resolves to a reserved network address (block: 127.0.0.0/8)"},
            LabelStudioAuthError,
            "SSRF_PROTECTION_ENABLED=false",
        ),
        (404, {"detail": "No Project matches"}, NotFoundError, "No Project matches"),
        (
            400,
            {"detail": "Validation error", "validation_errors": {"title": ["too short"]}},
            LabelStudioError,
            "title: too short",
        ),
        (500, b"<html>oops</html>", LabelStudioUnreachableError, "500"),
        (429, {"detail": "slow down"}, LabelStudioUnreachableError, "slow down"),
        (200, b"<html>some other site</html>", LabelStudioUnreachableError, "not JSON"),
        (200, b'{"half": ', LabelStudioUnreachableError, "not JSON"),
    ],
)
def test_an_error_says_what_to_do(
    status: int, body: object, error: type[Exception], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    with serve(lambda _: Answer(status, body)) as server, pytest.raises(error, match=words) as caught:
        client(server.url).project(1)
    assert TOKEN not in str(caught.value)


def test_an_error_that_repeats_the_token_is_scrubbed() -> None:
    answer = Answer(400, {"detail": f"Authorization: Token {TOKEN} is odd"})
    with serve(lambda _: answer) as server, pytest.raises(LabelStudioError) as caught:
        client(server.url).project(1)
    assert TOKEN not in str(caught.value)
    assert "***" in str(caught.value)


def test_a_label_studio_that_is_down_is_unreachable() -> None:
    with pytest.raises(LabelStudioUnreachableError, match="no connection"):
        client(f"http://127.0.0.1:{free_port()}").version()


def test_a_label_studio_that_is_slow_is_unreachable() -> None:
    released = threading.Event()

    def wait(_: Request) -> Answer:
        released.wait(10)
        return Answer()

    with serve(wait) as server:
        with pytest.raises(LabelStudioUnreachableError, match=r"no answer within 0\.2 s"):
            client(server.url, timeout=0.2).create_annotation(1, [], 1.0)
        released.set()


def test_an_answer_that_breaks_off_is_unreachable() -> None:
    answer = Answer(200, b'{"id"', {"Content-Length": "500"})
    with (
        serve(lambda _: answer) as server,
        pytest.raises(LabelStudioUnreachableError, match="Label Studio at"),
    ):
        client(server.url).project(1)


def test_reading_is_tried_again_and_writing_is_not() -> None:
    answers = [Answer(500), Answer(200, {"id": 1})]
    with serve(lambda _: answers.pop(0)) as server:
        assert client(server.url).project(1) == {"id": 1}
    with serve(lambda _: Answer(502)) as server:
        with pytest.raises(LabelStudioUnreachableError):
            client(server.url).import_tasks(1, [{"data": {}}])
        assert len(server.asked) == 1


def test_a_redirect_of_the_api_names_the_address_to_set() -> None:
    answer = Answer(301, b"", {"Location": "https://labels.example.org/api/projects/1/"})
    with (
        serve(lambda _: answer) as server,
        pytest.raises(LabelStudioError, match=r"labels\.example\.org.*LABEL_STUDIO_URL"),
    ):
        client(server.url).project(1)


def personal_token_server(lifetime: float) -> Callable[[Request], Answer]:
    def answer(request: Request) -> Answer:
        if request.path == "/api/token/refresh/":
            now = time.time()
            return Answer(200, {"access": jwt(token_type="access", iat=now, exp=now + lifetime)})
        return Answer(200, {"id": 1})

    return answer


@pytest.mark.parametrize(("lifetime", "exchanges"), [(300, 1), (20, 2)])
def test_a_personal_access_token_is_exchanged_before_it_expires(
    lifetime: float, exchanges: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve(personal_token_server(lifetime)) as server:
        labels = client(server.url, PERSONAL)
        labels.project(1)
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now + 2)
        labels.project(1)
        assert server.asked.count("POST /api/token/refresh/") == exchanges
        used = [
            request.headers["Authorization"]
            for request in server.requests.queue
            if "projects" in request.path
        ]
    assert all(header.startswith("Bearer ") and PERSONAL not in header for header in used)


def test_an_access_token_that_was_revoked_is_exchanged_once_more() -> None:
    refusals = [Answer(401, {"detail": "token_not_valid"})]
    usual = personal_token_server(300)

    def answer(request: Request) -> Answer:
        return refusals.pop() if refusals and "refresh" not in request.path else usual(request)

    with serve(answer) as server:
        assert client(server.url, PERSONAL).project(1) == {"id": 1}
        assert server.asked.count("POST /api/token/refresh/") == 2


def test_a_personal_access_token_that_is_refused_is_named() -> None:
    with (
        serve(lambda _: Answer(401, {"detail": "Token is invalid"})) as server,
        pytest.raises(LabelStudioAuthError, match="personal access token: it is expired") as caught,
    ):
        client(server.url, PERSONAL).version()
    assert PERSONAL not in str(caught.value)


def test_an_access_token_in_place_of_the_personal_one_is_refused() -> None:
    with pytest.raises(LabelStudioAuthError, match="expires within minutes"):
        client("http://127.0.0.1:1", jwt(token_type="access", exp=9e9))


def test_the_token_goes_to_label_studio_only() -> None:
    with serve(lambda _: Answer(200, b"image")) as elsewhere:
        moved = Answer(302, b"", {"Location": f"{elsewhere.url}/bucket/image.png?signature=s3cret"})
        with serve(lambda _: moved) as server:
            labels = client(server.url, image_hosts=["127.0.0.1"])
            assert labels.download("/data/upload/1/image.png") == b"image"
            assert labels.download(f"{elsewhere.url}/other.png") == b"image"
            assert server.requests.get().headers["Authorization"] == f"Token {TOKEN}"
        assert all("Authorization" not in request.headers for request in elsewhere.requests.queue)


def test_the_token_goes_by_the_host_that_is_asked_not_by_how_else_an_address_may_be_read() -> None:
    with serve(lambda _: Answer(200, b"image")) as elsewhere:
        odd = elsewhere.url + "\\@"
        with serve(lambda _: Answer(302, b"", {"Location": odd + server_host})) as server:
            server_host = server.url.removeprefix("http://")
            labels = client(server.url)
            for address in (f"{odd}{server_host}/image.png", "/data/upload/1/image.png"):
                with pytest.raises(ImageError, match="IMIL_IMAGE_HOSTS"):
                    labels.download(address)
        assert elsewhere.asked == []


@pytest.mark.parametrize(
    "address", ["http://[bad/image.png", "http://", "http://a.test:port/", "http://\ud800/"]
)
def test_a_malformed_address_is_an_image_that_cannot_be_used(address: str) -> None:
    with serve(lambda _: Answer(302, b"", {"Location": "http://[bad/image.png"})) as server:
        for each in (address, "/data/upload/1/image.png"):
            with pytest.raises(ImageError, match="malformed"):
                client(server.url).download(each)


def test_a_download_is_cut_at_its_limit() -> None:
    with (
        serve(lambda _: Answer(200, bytes(2000))) as server,
        pytest.raises(ImageTooLargeError, match="1000 bytes"),
    ):
        client(server.url, max_image_bytes=1000).download("/data/upload/1/large.png")


def test_a_redirect_to_a_file_or_in_circles_is_refused() -> None:
    with (
        serve(lambda _: Answer(302, b"", {"Location": "file:///etc/passwd"})) as server,
        pytest.raises(ImageError, match="must start with http"),
    ):
        client(server.url).download("/data/upload/1/image.png")
    with (
        serve(lambda _: Answer(302, b"", {"Location": "/again"})) as server,
        pytest.raises(ImageError, match="redirected more than"),
    ):
        client(server.url).download("/data/upload/1/image.png")


@pytest.mark.parametrize("uri", ["data:image/png;base64,aGVsbG8=", "data:,hello", "data:text/plain,%68ello"])
def test_a_data_uri_is_decoded(uri: str) -> None:
    assert client("http://127.0.0.1:1").download(uri) == b"hello"


def test_a_bad_data_uri_is_refused() -> None:
    labels = client("http://127.0.0.1:1", max_image_bytes=10)
    with pytest.raises(ImageError, match="base64"):
        labels.download("data:image/png;base64,???")
    with pytest.raises(ImageTooLargeError):
        labels.download("data:," + "x" * 11)


@pytest.mark.parametrize(
    "address",
    [
        "/labelling/data/upload/1/image.png",
        "/data/upload/1/image.png",
        "{host}/labelling/data/upload/1/image.png",
    ],
)
def test_a_sub_path_is_respected(address: str) -> None:
    with serve(lambda _: Answer(200, b"image")) as server:
        labels = client(server.url + "/labelling/")
        labels.download(address.format(host=server.url))
        assert server.asked == ["GET /labelling/data/upload/1/image.png"]


def test_a_proxy_that_asks_for_basic_auth_is_told_apart_from_a_wrong_token() -> None:
    answer = Answer(401, b"<html>", {"WWW-Authenticate": 'Basic realm="clinic"'})
    for token in (TOKEN, PERSONAL):
        with serve(lambda _: answer) as server, pytest.raises(LabelStudioAuthError, match="A proxy in front"):
            client(server.url, token).project(1)
