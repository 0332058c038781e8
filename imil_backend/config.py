"""Settings of a process, from the environment and `.env`.

What belongs to a dataset (its training recipe, its round policy) is stored with the dataset instead.
"""

from __future__ import annotations

import re
from functools import cached_property
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import AliasChoices, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from imil_backend.errors import SettingsError

SECRET_HEADER = "X-IMIL-Secret"  # noqa: S105 - the name of the header in which webhooks bring it
# Where Docker and others lay secrets, each a file: imil_basic_auth_password, label_studio_api_key.
SECRETS_DIR = Path("/run/secrets")
LOOPBACK_HOSTS = frozenset({"127.0.0.1", "::1", "localhost"})
ALL_ADDRESSES = frozenset({"0.0.0.0", "::"})  # noqa: S104

Sent = TypeVar("Sent")


class Settings(BaseSettings):
    """Everything a process must be told; each field is read from `IMIL_<NAME>`.

    `LABEL_STUDIO_URL` and `LABEL_STUDIO_API_KEY` are read under those names too. What the environment and
    `.env` do not say is read from files of those names in SECRETS_DIR.
    """

    model_config = SettingsConfigDict(
        env_prefix="IMIL_", env_file=".env", extra="ignore", frozen=True, populate_by_name=True
    )

    data_dir: Path = Field(Path("imil_data"), description="Where the backend keeps everything.")
    database_url: str | None = Field(
        None,
        description="A PostgreSQL database, as an SQLAlchemy URL; without it SQLite in the data directory.",
    )
    dump_before_migration: bool = Field(
        True,
        description="Whether PostgreSQL is dumped into the data directory before an upgrade changes it.",
    )

    label_studio_url: str = Field(
        "http://localhost:8080",
        validation_alias=AliasChoices("IMIL_LABEL_STUDIO_URL", "LABEL_STUDIO_URL"),
        description="Label Studio's URL, with its sub-path if it has one.",
    )
    label_studio_api_key: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices("IMIL_LABEL_STUDIO_API_KEY", "LABEL_STUDIO_API_KEY"),
        description="A personal access token, or a legacy token.",
    )
    label_studio_timeout: float = Field(
        30.0, gt=0, description="Seconds to wait for a response from Label Studio."
    )
    label_studio_ca: Path | None = Field(
        None,
        description="CA certificates (PEM) to verify Label Studio's certificate with, for a CA of your own.",
    )
    label_studio_aliases: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Other URLs of the same Label Studio that occur in tasks, comma-separated.",
    )
    image_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Hosts and networks that images may be fetched from, comma-separated; "
        "`public`: all public.",
    )

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(9090, ge=1, le=65535)
    web_processes: int = Field(1, ge=1, le=64)
    log_format: Literal["text", "json"] = Field("text", description="`json`: one JSON object a line.")
    worker_port: int | None = Field(
        None, ge=1, le=65535, description="Port on which the worker shows its metrics; empty: none."
    )
    public_url: str | None = Field(
        None, description="The backend's URL as Label Studio reaches it; a host name in it needs a dot."
    )
    basic_auth_user: str | None = None
    basic_auth_password: SecretStr | None = None
    metrics_token: SecretStr | None = Field(
        None, description="A bearer token that may read /metrics, besides user and password."
    )
    dashboard_names: bool = Field(
        False, description="Whether the dashboard of `imil serve` shows annotators' names, not letters."
    )
    dashboard_user_header: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9-]+$",
        description="Header in which a proxy names who is logged in there; it opens the dashboard.",
    )
    dashboard_proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Addresses or networks of the proxies whose header is believed, comma-separated."
    )
    webhook_secrets: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        (),
        description="Accepted webhook secrets, comma-separated; the first is registered. Empty: "
        "one is generated.",
    )
    max_body_bytes: int = Field(
        64 * 2**20, ge=1024, description="Largest webhook or prediction request, in bytes."
    )

    max_image_bytes: int = Field(200 * 2**20, ge=1024, description="Largest image file, in bytes.")
    max_image_pixels: int = Field(
        100_000_000, ge=1024, description="Largest image, in pixels (width times height)."
    )
    max_image_memory: int = Field(
        2 * 2**30,
        ge=2**20,
        description="Memory for all images decoded at once, in bytes, per process.",
    )

    reconcile_minutes: int = Field(
        5, ge=1, le=59, description="Minutes between two reconciliations with Label Studio."
    )
    gc_keep: int = Field(
        3, ge=0, description="How many of a dataset's latest versions keep their weights in `imil gc`."
    )
    gc_nightly: bool = Field(False, description="Whether the worker does what `imil gc` does every night.")
    mlflow_uri: str | None = Field(
        None, description="MLflow's tracking server, or a folder, that trainings are reported to."
    )
    tensorboard_dir: Path | None = Field(
        None, description="A folder for TensorBoard that trainings are reported to."
    )
    device: str = Field("auto", pattern=r"^(auto|cpu|mps|cuda)$")
    training_processes: int = Field(1, ge=1, description="Number of training processes, one per GPU.")
    training_nodes: int = Field(
        1, ge=1, le=64, description="Number of hosts that do a training together, each with a worker."
    )
    training_address: str | None = Field(
        None,
        description="This host's address for trainings on several; empty: the one that faces PostgreSQL.",
    )
    weights: Path | None = Field(None, description="ImageNet weights to start from (`imil weights`).")

    @field_validator(
        "webhook_secrets", "image_hosts", "label_studio_aliases", "dashboard_proxies", mode="before"
    )
    @classmethod
    def _split_list(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator(
        "label_studio_api_key",
        "metrics_token",
        "worker_port",
        "training_address",
        "dashboard_user_header",
        mode="before",
    )
    @classmethod
    def _blank_is_none(cls, value: object) -> object:
        return None if isinstance(value, str) and not value.strip() else value

    @field_validator("training_nodes")
    @classmethod
    def _share_a_database(cls, value: int, info: ValidationInfo) -> int:
        if value > 1 and not info.data.get("database_url"):
            raise ValueError("several hosts need PostgreSQL; set IMIL_DATABASE_URL")
        return value

    @field_validator("image_hosts")
    @classmethod
    def _are_hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_host_or_network(entry) for entry in value)

    @field_validator("dashboard_proxies")
    @classmethod
    def _are_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        networks = [ip_network(each, strict=False) for each in value]
        if any(each.prefixlen == 0 for each in networks):
            raise ValueError("a network of all addresses would believe anybody")
        return tuple(map(str, networks))

    @field_validator("label_studio_ca")
    @classmethod
    def _is_file(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_file():
            raise ValueError(f"the file {str(value)!r} does not exist")
        return value

    @field_validator("label_studio_api_key")
    @classmethod
    def _is_token(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not re.fullmatch(r"[!-~]+", value.get_secret_value().strip()):
            raise ValueError("it contains characters that no Label Studio token has; copy it again")
        return value

    @field_validator("basic_auth_user", "basic_auth_password", "webhook_secrets")
    @classmethod
    def _can_be_sent(cls, value: Sent) -> Sent:
        for each in value if isinstance(value, tuple) else (value,):
            _check_can_be_sent(each.get_secret_value() if isinstance(each, SecretStr) else str(each or ""))
        return value

    @field_validator("basic_auth_user")
    @classmethod
    def _has_no_colon(cls, value: str | None) -> str | None:
        if value and ":" in value:
            raise ValueError("a user name for Basic auth must not contain a colon")
        return value

    @field_validator("label_studio_aliases")
    @classmethod
    def _are_http_urls(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_http_url(each) for each in value)

    @field_validator("label_studio_url", "public_url")
    @classmethod
    def _is_http_url(cls, value: str | None) -> str | None:
        return None if value is None else _http_url(value)

    @property
    def listens_beyond_loopback(self) -> bool:
        """Whether other machines can reach the backend."""
        return self.host not in LOOPBACK_HOSTS

    @cached_property
    def own_url(self) -> str:
        """The backend's URL as Label Studio reaches it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return self.public_url or f"http://{host}:{self.port}"

    @cached_property
    def own_names(self) -> frozenset[str]:
        """The hosts under which others may call the backend, in lower case."""
        return LOOPBACK_HOSTS | {self.host.lower(), urlsplit(self.own_url).hostname or ""}

    def require_api_key(self) -> str:
        """Label Studio's token.

        Raises:
            SettingsError: none is set.
        """
        if self.label_studio_api_key is None:
            raise SettingsError(
                "No Label Studio token is set. Create one in Label Studio (Account & Settings > Personal "
                "Access Token) and set LABEL_STUDIO_API_KEY."
            )
        return self.label_studio_api_key.get_secret_value()


def is_ip_address(host: str) -> bool:
    """Whether a host is given as an IP address, and not by name."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _http_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"{value!r} is not an http or https URL")
    if parts.username or parts.password:
        raise ValueError("a user and password in the URL are not supported; see the guide on Basic auth")
    return value.rstrip("/")


def _check_can_be_sent(text: str) -> None:
    """That Label Studio can send a password or secret, and sends it as it stands here.

    Its HTTP client has Latin-1 for headers and for Basic auth: of other characters it makes an error, and the
    webhook or prediction is lost.

    Raises:
        ValueError: it cannot.
    """
    try:
        text.encode("latin-1")
    except UnicodeEncodeError:
        raise ValueError(
            "it has characters outside Latin-1 (Western European), which Label Studio cannot send; letters, "
            "digits and punctuation of ASCII always work"
        ) from None
    if text != text.strip() or not text.isprintable():
        raise ValueError(
            "it begins or ends with a space, or contains invisible characters, which Label Studio may drop"
        )


def _host_or_network(entry: str) -> str:
    if "://" in entry:
        raise ValueError(f"{entry!r} is a URL; give only the host")
    return str(ip_network(entry, strict=False)) if "/" in entry else entry


def load_settings(**overrides: object) -> Settings:
    """Read the settings; `overrides` win over the environment.

    Raises:
        SettingsError: a setting is wrong, or there is none of a given name; the message names it, never its
            value if it is secret.
    """
    if unknown := overrides.keys() - Settings.model_fields.keys() - {"_env_file"}:
        raise SettingsError(
            f"There is no setting {', '.join(sorted(unknown))}. Settings: {', '.join(Settings.model_fields)}."
        )
    try:
        return Settings(**({"_secrets_dir": SECRETS_DIR} if SECRETS_DIR.is_dir() else {}) | overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        problems = "; ".join(
            f"IMIL_{'.'.join(str(part) for part in problem['loc']).upper()}: {problem['msg']}"
            for problem in error.errors(include_input=False, include_url=False)
        )
        raise SettingsError(f"Wrong settings: {problems}") from error
