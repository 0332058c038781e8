"""The kinds of storage that Label Studio reads images from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StorageKind:
    """A kind of storage.

    Attributes:
        place: the settings that say where a storage is, the bucket first where there is one.
        credentials: the settings that Label Studio takes but never tells.
        scheme: of the addresses that images in a bucket have; "" where they have none of their own.
    """

    place: tuple[str, ...]
    credentials: tuple[str, ...] = ()
    scheme: str = ""


# By name, as in Label Studio's own /api/storages/NAME.
STORAGE_KINDS: dict[str, StorageKind] = {
    "s3": StorageKind(
        place=("bucket", "prefix", "region_name", "s3_endpoint"),
        credentials=("aws_access_key_id", "aws_secret_access_key", "aws_session_token"),
        scheme="s3",
    ),
    "gcs": StorageKind(
        place=("bucket", "prefix"), credentials=("google_application_credentials",), scheme="gs"
    ),
    "azure": StorageKind(
        place=("container", "prefix"), credentials=("account_name", "account_key"), scheme="azure-blob"
    ),
    "redis": StorageKind(place=("host", "path"), credentials=("password",)),
    "localfiles": StorageKind(place=("path",)),
}


def bucket_schemes() -> set[str]:
    """The schemes of images that lie in a bucket."""
    return {kind.scheme for kind in STORAGE_KINDS.values() if kind.scheme}
