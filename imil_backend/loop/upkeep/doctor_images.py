"""Whether the images of data sets that came from Label Studio can still be fetched."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from urllib.parse import urlsplit

from sqlalchemy import select

from imil_backend.errors import ImageError
from imil_backend.images.reading import image_format
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.upkeep.check_results import CheckResult, Outcome, State, look
from imil_backend.store.tables import Dataset, Sample

# Parts of the paths under which Label Studio serves images.
_KINDS = {
    "/data/upload/": "uploads",
    "/data/local-files/": "local files",
    "/resolve/": "cloud storage",
}


def look_at_images(backend: Backend) -> Iterator[CheckResult]:
    """Fetch one image of each place that the images of a data set come from."""
    for subject, address in _one_of_each(backend).items():
        yield look(subject, partial(_fetch, backend, address))


def _one_of_each(backend: Backend) -> dict[str, str]:
    addresses = (
        select(Dataset.name, Sample.address)
        .join(Sample, Sample.dataset_id == Dataset.id)
        .where(Dataset.source_instance == backend.settings.label_studio_url, Sample.address.is_not(None))
        .order_by(Dataset.name, Sample.id)
    )
    found: dict[str, str] = {}
    with backend.store.begin() as session:
        for dataset, address in session.execute(addresses):
            found.setdefault(f"images of {dataset}, {_place(str(address))}", str(address))
    return found


def _place(address: str) -> str:
    parts = urlsplit(address)
    return next((kind for part, kind in _KINDS.items() if part in parts.path), parts.hostname or "elsewhere")


def _fetch(backend: Backend, address: str) -> Outcome:
    try:
        content = backend.label_studio.download(address)
    except ImageError as error:
        return State.FAILED, str(error)
    if image_format(content) is None:
        return State.FAILED, "What is at its URL is not an image. Is there a proxy or a login in between?"
    return State.OK, "One was fetched."
