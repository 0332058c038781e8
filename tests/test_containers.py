"""What can be known of the containers without an engine: every setting in their files means something."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import AliasChoices

from imil_backend.config import Settings

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


def test_the_backend_accepts_what_compose_sets(compose: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    values = example() | {"LABEL_STUDIO_API_KEY": "token", "IMIL_BASIC_AUTH_PASSWORD": "password"}
    environment = compose["services"]["web"]["environment"]
    for name, value in environment.items():
        monkeypatch.setenv(name, re.sub(r"\$\{([A-Z_]+)[^}]*\}", lambda found: values[found[1]], value))
    monkeypatch.setenv("IMIL_HOST", "0.0.0.0")
    settings = Settings(_env_file=None)
    assert settings.own_url == "http://imil.backend.internal:9090"
    assert settings.webhook_secrets == ()
    assert settings.require_api_key() == "token"


def test_the_webhooks_host_is_an_alias_with_a_dot(compose: Any) -> None:
    (alias,) = compose["services"]["web"]["networks"]["default"]["aliases"]
    assert "." in alias
    assert f"http://{alias}:9090" == compose["services"]["web"]["environment"]["IMIL_PUBLIC_URL"]
