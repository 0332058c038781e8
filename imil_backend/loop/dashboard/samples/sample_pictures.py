"""Pictures of a sample by itself: the image, each answer's outline, the mask, and what training sees."""

from __future__ import annotations

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from imil_backend.errors import NotFoundError
from imil_backend.loop.answers.sample_states import load_mask, sample_states
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.policy import policy_of
from imil_backend.loop.base.states import Purpose
from imil_backend.loop.dashboard.datasets import dataset_of
from imil_backend.loop.dashboard.pictures import blacked_out, encoded, outlined, painted, panel_of
from imil_backend.loop.dashboard.rounds.round_pictures import sample_of
from imil_backend.loop.rounds.pictures import Painted, counterexample
from imil_backend.store.tables import Annotation, Dataset, Sample

IMAGE, MASK, BLACKOUT, COUNTEREXAMPLE = "image", "mask", "blackout", "counterexample"
_DONORS = 10  # that are looked at: what people painted may come to no mask


def sample_picture(backend: Backend, dataset_id: int, key: str, kind: str) -> bytes:
    """A JPEG of a sample.

    Args:
        backend: the store and the images.
        dataset_id: whose.
        key: of the sample.
        kind: IMAGE, MASK (the one that counts), BLACKOUT or COUNTEREXAMPLE (what training sees).

    Raises:
        NotFoundError: there is no such sample or kind, or nothing was painted.
        ImageError: the image cannot be read.
        MaskError: a mask cannot be read.
    """
    with backend.store.begin() as session:
        dataset, sample = dataset_of(session, dataset_id), sample_of(session, dataset_id, key)
        if kind == IMAGE:
            return encoded(panel_of(backend, sample))
        state = sample_states(backend, session, dataset, sample.id).get(sample.id)
        if state is None or state.mask_sha256 is None or kind not in {MASK, BLACKOUT, COUNTEREXAMPLE}:
            raise NotFoundError(f"Nothing was painted in sample {key}.")
        donor = donor_of(backend, session, dataset, sample) if kind == COUNTEREXAMPLE else None
    mask = load_mask(backend, state.mask_sha256, sample)
    if kind == MASK:
        return encoded(painted(panel_of(backend, sample), mask))
    if kind == BLACKOUT:
        return encoded(blacked_out(backend, sample, mask, policy_of(dataset).fill))
    if donor is None:
        raise NotFoundError("There is no counterexample: no other sample was painted.")
    return encoded(counterexample(backend, sample, state, donor))


def answer_picture(backend: Backend, dataset_id: int, key: str, annotation_id: int) -> bytes:
    """A JPEG of a sample with the outline of what one person painted.

    Raises:
        NotFoundError: there is no such answer, or nothing was painted in it.
        ImageError: the image cannot be read.
        MaskError: the mask cannot be read.
    """
    with backend.store.begin() as session:
        sample = sample_of(session, dataset_id, key)
        found = select(Annotation).where(Annotation.id == annotation_id, Annotation.sample_id == sample.id)
        annotation = session.scalar(found)
    if annotation is None or annotation.mask_sha256 is None:
        raise NotFoundError(f"Sample {key} has no such painted answer.")
    return encoded(outlined(panel_of(backend, sample), load_mask(backend, annotation.mask_sha256, sample)))


def donor_of(backend: Backend, session: Session, dataset: Dataset, sample: Sample) -> Painted | None:
    """Another painted sample, of another class if there is one: its irrelevant part is what is pasted in."""
    painted = exists().where(
        Annotation.sample_id == Sample.id,
        ~Annotation.deleted,
        Annotation.mask_sha256.is_not(None),
        ~Annotation.task.has(purpose=Purpose.GOLD.value),
    )
    others = (
        select(Sample)
        .where(Sample.dataset_id == dataset.id, Sample.id != sample.id, painted)
        .order_by(Sample.split, Sample.id)  # as an index has them, so that the first ones end the search
        .limit(_DONORS)
    )
    for which in (others.where(Sample.label != sample.label), others):
        for donor in session.scalars(which):
            state = sample_states(backend, session, dataset, donor.id).get(donor.id)
            if state is not None and state.mask_sha256:
                return donor, state
    return None
