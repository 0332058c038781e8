"""Label Studio's files under another name than LABEL_STUDIO_URL: found, and the token goes nowhere else."""

from __future__ import annotations

from typing import Any

import pytest
from support.http_server import Answer, Request, serve
from support.label_studio import free_port
from support.push import png

from imil_backend.errors import ImageError, LabelStudioUnreachableError
from imil_backend.label_studio.api.client import LabelStudio

TOKEN = "0123456789abcdef" * 2 + "01234567"
NAME = "http://labels.example.org:8080"
FILES = [
    "/data/upload/1/image.png",
    "/data/local-files/?d=films/a%20b.png",
    "/data/local-files?d=films/a.png",
    "/tasks/7/resolve/?fileuri=czM6Ly9maWxtcy9hLnBuZw==",
    "/tasks/7/presign/?fileuri=czM6Ly9maWxtcy9hLnBuZw==",
    "/storage-data/uploaded/?filepath=upload/1/a.png",
]


def client(url: str, **options: Any) -> LabelStudio:
    return LabelStudio(url, TOKEN, timeout=2.0, **options)


def calls_itself(name: str, sub_path: str = "") -> Any:
    """A Label Studio of this LABEL_STUDIO_HOST."""
    templates = {"templates": [{"title": "no picture"}, {"image": f"{name}/static/templates/a.jpg"}]}

    def answer(request: Request) -> Answer:
        return Answer(200, templates if request.path == f"{sub_path}/api/templates" else b"image")

    return answer


@pytest.mark.parametrize("path", FILES)
def test_a_file_under_the_name_that_label_studio_has_for_itself_is_fetched_by_ours(path: str) -> None:
    with serve(calls_itself(NAME)) as server:
        labels = client(server.url)
        assert labels.download(NAME + path) == labels.download(NAME + path) == b"image"
        assert server.asked == ["GET /api/templates", f"GET {path}", f"GET {path}"]  # asked once
        assert all(each.headers["Authorization"] == f"Token {TOKEN}" for each in server.requests.queue)


def test_a_file_under_a_name_of_the_settings_is_fetched_by_ours() -> None:
    with serve(calls_itself("")) as server:
        labels = client(server.url, aliases=["https://old.example.org/labels"])
        labels.download("https://old.example.org/labels/data/upload/1/image.png")
        assert server.asked[-1] == "GET /data/upload/1/image.png"


def test_sub_paths_of_both_names_are_respected() -> None:
    with serve(calls_itself("https://labels.example.org/there", "/here")) as server:
        client(f"{server.url}/here/").download("https://labels.example.org:443/there/data/upload/1/a.png")
        assert server.asked[-1] == "GET /here/data/upload/1/a.png"


@pytest.mark.parametrize(
    "address",
    [
        "{elsewhere}/data/upload/1/image.png",  # another port is another server
        "{elsewhere}/data/local-files/?d={name}/data/upload/1/image.png",
        "{elsewhere}/image.png",
        "{elsewhere}/data/uploads/1/image.png",
        "{elsewhere}/data/upload/1/../../../image.png",
    ],
)
def test_the_token_goes_to_no_other_host_whatever_its_paths_look_like(address: str) -> None:
    with serve(lambda _: Answer(200, b"image")) as elsewhere, serve(calls_itself(NAME)) as server:
        labels = client(server.url, image_hosts=["127.0.0.1"], aliases=[NAME])
        assert labels.download(address.format(elsewhere=elsewhere.url, name=NAME)) == b"image"
        assert [request.headers.get("Authorization") for request in elsewhere.requests.queue] == [None]
        assert [path for path in server.asked if path != "GET /api/templates"] == []


def test_what_label_studio_calls_itself_never_sends_the_token_there() -> None:
    with serve(lambda _: Answer(200, b"stolen")) as elsewhere, serve(lambda _: Answer()) as server:
        server.answer = calls_itself(elsewhere.url)
        assert client(server.url).download(f"{elsewhere.url}/data/upload/1/a.png") == b"image"
        assert elsewhere.asked == []


@pytest.mark.parametrize("path", ["/api/users/", "/api/data/upload/1/a.png", "/user/login/", ""])
def test_pages_of_the_other_name_that_are_no_files_are_not_asked_with_the_token(path: str) -> None:
    with serve(calls_itself("http://127.0.0.1:9")) as server:
        with pytest.raises(ImageError, match="IMIL_IMAGE_HOSTS"):
            client(server.url).download(f"http://127.0.0.1:9{path}")
        assert set(server.asked) <= {"GET /api/templates"}


def test_a_redirect_to_the_other_name_is_followed_by_ours() -> None:
    with serve(calls_itself(NAME)) as server:
        told = server.answer

        def answer(request: Request) -> Answer:
            moved = Answer(302, b"", {"Location": f"{NAME}/data/upload/1/new.png"})
            return moved if request.path.endswith("old.png") else told(request)

        server.answer = answer
        assert client(server.url).download("/data/upload/1/old.png") == b"image"


@pytest.mark.parametrize("name", ["http://127.0.0.1:{port}", "http://nowhere.invalid"])
def test_a_name_that_is_not_known_is_an_error_that_names_the_setting(name: str) -> None:
    address = name.format(port=free_port()) + "/data/local-files/?d=a.png"
    with (
        serve(lambda _: Answer(404, {"detail": "Not found."})) as server,
        pytest.raises(ImageError, match=r"IMIL_LABEL_STUDIO_ALIASES.*LABEL_STUDIO_URL"),
    ):
        client(server.url).download(address)


def test_a_label_studio_elsewhere_that_asks_for_its_token_is_an_error_that_names_the_setting() -> None:
    with serve(lambda _: Answer(401)) as elsewhere, serve(calls_itself("")) as server:
        labels = client(server.url, image_hosts=["127.0.0.1"])
        with pytest.raises(ImageError, match=r"answered 401.*IMIL_LABEL_STUDIO_ALIASES"):
            labels.download(f"{elsewhere.url}/data/upload/1/image.png")


def test_a_label_studio_that_does_not_answer_is_no_reason_to_set_an_image_aside() -> None:
    labels = client(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(LabelStudioUnreachableError):
        labels.download(f"{NAME}/data/upload/1/image.png")


@pytest.mark.parametrize(
    "told", [None, [], {}, {"templates": None}, {"templates": ["x", {"image": None}, {"image": "/static/a"}]}]
)
def test_whatever_else_is_answered_is_no_name(told: object) -> None:
    with serve(lambda _: Answer(200, told)) as server:
        assert client(server.url).own_name() is None


@pytest.mark.label_studio
def test_the_real_one_tells_what_it_calls_itself(label_studio: Any) -> None:
    client: LabelStudio = label_studio.client
    assert client.own_name() == label_studio.url
    assert label_studio.username in client.people().values()


@pytest.mark.label_studio
def test_files_of_the_real_one_are_fetched_by_another_name_of_it(label_studio: Any, project: int) -> None:
    path = label_studio.client.upload_image(project, "a.png", png())
    other = LabelStudio(label_studio.url.replace("127.0.0.1", "localhost"), label_studio.api_key)
    assert other.download(label_studio.url + path) == png()
