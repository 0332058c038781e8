"""What can be known of the containers without an engine: every setting in their files means something."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from pydantic import AliasChoices

from imil_backend import config
from imil_backend.config import Settings, load_settings
from imil_backend.loop.base import timestamps
from imil_backend.server.auth import BasicAuth

DOCKER = Path(__file__).parents[1] / "docker"
# Read in Label Studio 1.23 by core/settings, server.py and ml/api_connector.py.
LABEL_STUDIO_SERVER_SETTINGS = {
    "COLLECT_ANALYTICS",
    "FRONTEND_SENTRY_DSN",
    "LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK",
    "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN",
    "LABEL_STUDIO_HOST",
    "LABEL_STUDIO_PASSWORD",
    "LABEL_STUDIO_USERNAME",
    "LABEL_STUDIO_USER_TOKEN",
    "LATEST_VERSION_CHECK",
    "SENTRY_DSN",
    "USER_ADDITIONAL_BANNED_SUBNETS",
    "USE_DEFAULT_BANNED_SUBNETS",
}


def our_settings() -> set[str]:
    names: set[str] = set()
    for name, field in Settings.model_fields.items():
        alias = field.validation_alias
        names.update(map(str, alias.choices) if isinstance(alias, AliasChoices) else [f"IMIL_{name.upper()}"])
    return names


def example() -> dict[str, str]:
    lines = (DOCKER / ".env.example").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


@pytest.fixture(scope="module")
def compose() -> Any:
    return yaml.safe_load((DOCKER / "compose.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("service", ["web", "worker"])
def test_every_setting_of_the_backend_exists(compose: Any, service: str) -> None:
    environment = compose["services"][service]["environment"]
    assert environment.keys() <= our_settings()


def test_every_setting_of_label_studio_exists(compose: Any) -> None:
    assert compose["services"]["label-studio"]["environment"].keys() <= LABEL_STUDIO_SERVER_SETTINGS


def test_every_setting_of_the_image_exists() -> None:
    dockerfile = (DOCKER / "Dockerfile").read_text(encoding="utf-8")
    assert set(re.findall(r"\b(?:IMIL|LABEL_STUDIO)_[A-Z_]+", dockerfile)) <= our_settings()


def test_the_example_names_what_compose_asks_for_and_nothing_else() -> None:
    asked = re.findall(r"\$\{([A-Z_]+)", (DOCKER / "compose.yaml").read_text(encoding="utf-8"))
    assert example().keys() == set(asked)


def test_the_examples_values_are_the_defaults(compose: Any) -> None:
    defaults = dict(
        re.findall(r"\$\{([A-Z_]+):-([^}]*)\}", (DOCKER / "compose.yaml").read_text(encoding="utf-8"))
    )
    assert {name: example()[name] for name in defaults} == defaults


def test_the_backend_accepts_what_compose_sets(
    compose: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    values = example()
    environment = compose["services"]["web"]["environment"]
    for name, value in environment.items():
        monkeypatch.setenv(name, re.sub(r"\$\{([A-Z_]+)[^}]*\}", lambda found: values[found[1]], value))
    monkeypatch.setenv("IMIL_HOST", "0.0.0.0")
    for name in compose["services"]["web"]["secrets"]:
        (tmp_path / name).write_text(f"{name}'s\n")
    monkeypatch.setattr(config, "SECRETS_DIR", tmp_path)
    settings = load_settings(_env_file=None)
    assert BasicAuth.from_settings(settings).password == "imil_basic_auth_password's"
    assert settings.own_url == "http://imil.backend.internal:9090"
    assert settings.webhook_secrets == ()
    assert settings.require_api_key() == "label_studio_api_key's"


def test_the_health_of_the_worker_is_its_heartbeat(compose: Any, tmp_path: Path) -> None:
    _, check = compose["services"]["worker"]["healthcheck"]["test"]
    beat = tmp_path / timestamps.FOLDER / f"{timestamps.WORKER}-worker"
    check = check.replace("/data/", f"{tmp_path}/")

    def is_well() -> bool:
        return subprocess.run(check, shell=True, capture_output=True, check=False).returncode == 0

    assert not is_well()
    beat.parent.mkdir()
    beat.touch()
    assert is_well()
    os.utime(beat, (1, 1))
    assert not is_well()


def test_the_webhooks_host_is_an_alias_with_a_dot(compose: Any) -> None:
    (alias,) = compose["services"]["web"]["networks"]["default"]["aliases"]
    assert "." in alias
    assert f"http://{alias}:9090" == compose["services"]["web"]["environment"]["IMIL_PUBLIC_URL"]


@pytest.mark.parametrize("service", ["web", "worker"])
def test_a_container_of_ours_is_read_only_and_limited(compose: Any, service: str) -> None:
    found = compose["services"][service]
    assert found["read_only"] is True
    assert found["cap_drop"] == ["ALL"]
    assert found["security_opt"] == ["no-new-privileges:true"]
    assert re.search(r":-\d+g", found["mem_limit"])
    assert found["pids_limit"] > 0


def test_no_secret_of_ours_is_in_an_environment(compose: Any) -> None:
    secret = {
        name.upper() for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)
    }
    for service in ("web", "worker"):
        found = compose["services"][service]
        assert {name.upper().removeprefix("IMIL_") for name in found["secrets"]} <= secret
        assert not secret & {name.removeprefix("IMIL_") for name in found["environment"]}


def test_the_secrets_are_made_for_their_reader_alone(tmp_path: Path, compose: Any) -> None:
    shutil.copy(DOCKER / "make-secrets", tmp_path)
    (tmp_path / ".env").write_text("# not LABEL_STUDIO_API_KEY=x\nLABEL_STUDIO_API_KEY=token\n")
    for _ in range(2):
        subprocess.run([str(tmp_path / "make-secrets")], check=True, umask=0)
    paths = {tmp_path / each["file"] for each in compose["secrets"].values()}
    assert set((tmp_path / "secrets").iterdir()) == {path.resolve() for path in paths}
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "secrets/label_studio_api_key").read_text() == "token"
    assert re.fullmatch("[0-9a-f]{40}", (tmp_path / "secrets/imil_basic_auth_password").read_text())
    if os.geteuid() == 0:
        assert {(path.stat().st_uid, path.stat().st_mode & 0o777) for path in paths} == {(10001, 0o400)}


LOCKS = ("torch", "requirements", "tracking")


def lock_text(lock: str) -> str:
    return (DOCKER / f"{lock}.lock").read_text(encoding="utf-8")


def locked() -> dict[str, tuple[str, int]]:
    """Of each package in the lock files its version and how many hashes it has."""
    found = {}
    for lock in LOCKS:
        for entry in re.split(r"\n(?=\w)", lock_text(lock))[1:]:
            name, version = entry.split(" ")[0].split("==")
            found[name] = (version, entry.count("--hash=sha256:"))
    return found


def test_the_locks_hold_what_the_project_asks_for_with_hashes() -> None:
    project = (DOCKER.parent / "pyproject.toml").read_text(encoding="utf-8")
    asked: list[str] = []
    for name in ("requires", "dependencies", "dicom", "compare", "mlflow", "tensorboard"):
        (written,) = re.findall(rf"^{name} = \[(.*?)\]$", project, re.M | re.S)
        asked += re.findall(r'"(.+?)"', written)
    assert len(asked) > 20
    found = locked()
    for requirement in map(Requirement, asked):
        assert found[requirement.name][0] in requirement.specifier, f"{requirement}: run scripts/lock"
    assert min(hashes for _, hashes in found.values()) > 0
    assert len(found) > 60


def test_no_package_is_in_two_locks() -> None:
    """The image installs them one after the other, so that the later version would win."""
    names = [name for lock in LOCKS for name in re.findall(r"^([\w.-]+)==", lock_text(lock), re.M)]
    assert len(names) == len(set(names))


def test_the_image_takes_nothing_that_is_not_locked() -> None:
    dockerfile = (DOCKER / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", "")
    installs = re.findall(r"pip install ([^;\n]*)", dockerfile)
    assert len(installs) == 5
    for arguments in installs:
        assert "--no-deps" in arguments
        assert "--require-hashes" in arguments or "TORCH_INDEX_URL" in arguments or arguments.endswith(" .")
