"""An existing project of Label Studio, connected with a dataset."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy.orm import Session

from imil_backend.config import SECRET_HEADER
from imil_backend.errors import (
    AmbiguousConfigError,
    ImilError,
    LabelConfigError,
    LabelStudioAuthError,
    LabelStudioUnreachableError,
    RoundError,
)
from imil_backend.label_studio.api.calls import Call, Calls
from imil_backend.label_studio.api.tabs import ensure_tab
from imil_backend.label_studio.api.webhooks import (
    ACTIONS,
    Change,
    basic_auth_of,
    ensure_ml_backend,
    ensure_webhook,
    webhook_url,
)
from imil_backend.label_studio.labeling.label_config import ProjectMapping, read_label_config
from imil_backend.label_studio.labeling.label_config_change import completed_config, difference
from imil_backend.label_studio.labeling.words import words_of
from imil_backend.loop.base.backend import Backend, find_project, project_of
from imil_backend.loop.base.policy import Policy, changed_policy
from imil_backend.loop.projects.existing_storages import Credentials, add_storages, needed_storages, offer
from imil_backend.loop.projects.guide import shows_evidence
from imil_backend.loop.projects.relocated import elsewhere
from imil_backend.store.tables import Dataset, Project

ML_BACKEND_TITLE = "imil"


@dataclass
class Changes:
    """What connecting did, or would do.

    Attributes:
        mapping: what the labeling config means, with the change if it is made.
        difference: what the config lacks, as a unified diff; empty if nothing.
        calls: the requests that change something, in order.
        by_hand: what somebody must enter in Label Studio: what the token may not change, storages'
            credentials.
        offers: what `write` would add besides.
    """

    mapping: ProjectMapping
    difference: str
    calls: list[Call]
    by_hand: list[str] = field(default_factory=list)
    offers: list[str] = field(default_factory=list)


def connect_project(
    backend: Backend,
    dataset: Dataset,
    number: int,
    meanings: dict[str, Any],
    *,
    predictions: bool = False,
    write: bool = False,
    language: str | None = None,
    credentials: Credentials = lambda _: {},
    rehearsal: bool = False,
) -> Changes:
    """Connect a dataset with an existing project: its webhook, and no setting of its own unless asked for.

    Args:
        backend: the store and Label Studio.
        dataset: whose tasks are to be answered there.
        number: the project's id.
        meanings: `image`, `irrelevant`, `relevant` and `class_choices` of `read_label_config`; kept with the
            project.
        predictions: register the ML backend too. Label Studio then pre-fills tasks, writes predictions and
            sets the project's model_version.
        write: add to the labeling config what it lacks, the tab of answers that do not count, and storages
            that images of another project lie in; have Label Studio refuse empty answers.
        language: what clinicians read from now on, one of LANGUAGES; the dataset's if absent.
        credentials: asked for those of a storage that is to be added, since Label Studio does not tell them.
        rehearsal: dry run; change nothing, neither here nor in Label Studio.

    Raises:
        LabelConfigError: the config cannot be used as it is; the message has the smallest change.
        AmbiguousConfigError: `meanings` must say more.
        RoundError: the project or the dataset is taken.
        LabelStudioError: Label Studio cannot be reached or refuses.
    """
    there = backend.label_studio.project(number)
    with backend.store.begin() as session:
        kept = _check_free(backend, session, dataset, number)
    if kept is not None:
        meanings = {**(kept.meanings or {}), **meanings}
    if predictions or "class_choices" in meanings:
        meanings = _with_class(str(there["label_config"]), dataset.classes, meanings)
    earlier = dict((kept and kept.connected) or {})
    policy = changed_policy(dataset, {"language": language})
    plan = _ConnectionPlan(backend, dataset, policy, there, meanings, earlier, predictions, write)
    changes, planned = plan.rehearse()
    if rehearsal:
        return changes
    plan.note(planned)  # before anything is sent: whatever happens then can be taken back
    return plan.carry_out(credentials)


@dataclass(frozen=True)
class _ConnectionPlan:
    """A project as it is, and what is to be changed in it."""

    backend: Backend
    dataset: Dataset
    policy: Policy
    there: dict[str, Any]
    meanings: dict[str, Any]
    earlier: dict[str, Any]  # what connecting it before has changed
    predictions: bool
    write: bool

    @property
    def number(self) -> int:
        return int(self.there["id"])

    def rehearse(self) -> tuple[Changes, dict[str, Any]]:
        """What would be changed, and what could then be taken back; nothing is changed."""
        record: dict[str, Any] = {}
        calls = Calls(self.backend.label_studio, rehearsal=True)
        return self._apply(calls, record, lambda _: {}), record

    def carry_out(self, credentials: Credentials) -> Changes:
        """Change it, and keep what can be taken back, even if not all could be changed."""
        done: dict[str, Any] = {}
        try:
            changes = self._apply(Calls(self.backend.label_studio, rehearsal=False), done, credentials)
        except LabelStudioUnreachableError:
            raise  # what was sent last may have been done
        except ImilError:
            self.note(done)
            raise
        self.note(done)
        return changes

    def note(self, record: dict[str, Any]) -> None:
        """Keep what can be taken back."""
        # Of a config and a model version it is what was there at first that is given back.
        first = {name: value for name, value in self.earlier.items() if name != "storages"}
        instance = self.backend.settings.label_studio_url
        with self.backend.store.begin() as session:
            project = find_project(session, instance, self.number)
            if project is None:
                project = Project(dataset_id=self.dataset.id, instance=instance, label_studio_id=self.number)
                session.add(project)
            project.meanings = self.meanings
            project.connected = {**self.earlier, **record, **first}
            project.disconnected_at = None
            session.get_one(Dataset, self.dataset.id).policy = asdict(self.policy)

    def _apply(self, calls: Calls, record: dict[str, Any], credentials: Credentials) -> Changes:
        """Change config, registrations and storages; `record` says at every moment what can be taken back."""
        words = {
            "language": self.policy.language,
            "classes": self.dataset.classes,
            "evidence": shows_evidence(self.backend.label_studio.version()),
        }
        changes = _change(
            self.backend, calls, self.there, self.meanings, words, record,
            predictions=self.predictions, write=self.write,
        )  # fmt: skip
        needed = needed_storages(self.backend, self.dataset, self.number)
        if self.write:
            title = words_of(self.policy.language)["look_again"]
            if ensure_tab(calls, self.number, title, changes.mapping.image_key):
                record["tab"] = True
            if self.there.get("enable_empty_annotation"):
                body = {"enable_empty_annotation": False}
                calls.request("PATCH", f"/api/projects/{self.number}/", body=body)
                record["empty_annotations"] = True
            added, by_hand = add_storages(calls, self.number, needed, credentials)
            record["storages"] = self.earlier.get("storages", []) + added
            changes.by_hand += by_hand
        else:
            changes.offers = [offer(each, self.number, self.dataset.source_project) for each in needed]
        return changes


def _with_class(xml: str, classes: list[str], meanings: dict[str, Any]) -> dict[str, Any]:
    """The meanings, with the Choices that predictions are to fill in where there is one."""
    mapping = read_label_config(xml, **meanings, classes=classes, complete=False)
    named, there_are = meanings.get("class_choices"), mapping.class_candidates
    if named in there_are or (named is None and not there_are):
        return meanings
    if named is None and len(there_are) == 1:
        return {**meanings, "class_choices": there_are[0]}
    found = f"No Choices {named!r} holds" if named else "Several Choices hold"
    raise AmbiguousConfigError(
        f"{found} the classes {', '.join(classes)}. Choose the one that predictions fill in with "
        "--class-choices: "
        f"{', '.join(there_are) or 'there is none'}.",
        "class_choices",
        there_are,
    )


def _check_free(backend: Backend, session: Session, dataset: Dataset, number: int) -> Project | None:
    taken = find_project(session, backend.settings.label_studio_url, number)
    if taken is not None and taken.dataset_id != dataset.id:
        raise RoundError(
            f"Label Studio's project {number} belongs to dataset {taken.dataset.name!r}. Connect another one."
        )
    own = project_of(session, dataset.id)
    if own is not None and own.instance != backend.settings.label_studio_url:
        raise RoundError(elsewhere(own, backend.settings.label_studio_url))
    if taken is None and own is not None:
        raise RoundError(
            f"Dataset {dataset.name!r} is in project {own.label_studio_id} of {own.instance} "
            "already. To use a second project, import the data set under another --name."
        )
    if taken is not None and taken.connected is None:
        raise RoundError(
            f"Project {number} was created by `imil push` and needs no connection. Continue: `imil push`."
        )
    return taken


def _change(
    backend: Backend,
    calls: Calls,
    there: dict[str, Any],
    meanings: dict[str, Any],
    words: dict[str, Any],
    record: dict[str, Any],
    *,
    predictions: bool,
    write: bool,
) -> Changes:
    """Change what is to be changed; `record` says at every moment what was, and what was there before."""
    number, xml = int(there["id"]), str(there["label_config"])
    mapping = read_label_config(xml, **meanings, complete=False)
    _check_named(number, xml, meanings, mapping)
    wanted = completed_config(xml, mapping, **words)
    changes = Changes(mapping, difference(xml, wanted), calls.made)
    if changes.difference and write:
        calls.request("PATCH", f"/api/projects/{number}/", body={"label_config": wanted})
        changes.mapping = read_label_config(wanted, **meanings)
        record["label_config"] = {"before": xml, "after": wanted}
    elif not mapping.paints:
        labels = sorted(mapping.labels.other)
        naming = f"Name {', '.join(labels)} with --irrelevant or --relevant, or let" if labels else "Let"
        raise AmbiguousConfigError(
            f"The labeling config of project {number} has no label that means irrelevant or relevant. "
            f"{naming} --write make this change:\n{changes.difference}",
            "irrelevant",
            labels,
            several=True,
        )
    _register(backend, calls, there, changes, record, predictions=predictions)
    return changes


def _check_named(number: int, xml: str, meanings: dict[str, Any], mapping: ProjectMapping) -> None:
    """That every label which was named is there: a typing error would leave a label without a meaning."""
    for name in (*meanings.get("irrelevant", ()), *meanings.get("relevant", ())):
        alone = {**meanings, "irrelevant": [name], "relevant": []}
        if not read_label_config(xml, **alone, complete=False).paints:
            labels = mapping.labels.irrelevant | mapping.labels.relevant | mapping.labels.other
            raise LabelConfigError(
                f"Project {number} has no label {name} to paint with. "
                f"Its labels: {', '.join(sorted(labels)) or 'none'}."
            )


def _register(
    backend: Backend,
    calls: Calls,
    there: dict[str, Any],
    changes: Changes,
    record: dict[str, Any],
    *,
    predictions: bool,
) -> None:
    number, url = int(there["id"]), backend.settings.own_url
    current, *former = backend.webhook_secrets
    try:
        if ensure_webhook(calls, number, url, current, former=former) is Change.CREATED:
            record["webhook"] = True
    except LabelStudioAuthError as error:
        changes.by_hand.append(
            f"{error}\nAsk an administrator to add, in the project's Settings > Webhooks: "
            f"URL {webhook_url(url)}, header {SECRET_HEADER} with the secret of IMIL_WEBHOOK_SECRETS, "
            "payload on, and the events " + ", ".join(ACTIONS) + "."
        )
    if not predictions:
        return
    auth = basic_auth_of(backend.settings)
    try:
        if ensure_ml_backend(calls, number, url, ML_BACKEND_TITLE, auth) is Change.CREATED:
            record["ml_backend"] = {"model_version": there.get("model_version") or ""}
    except LabelStudioAuthError as error:
        changes.by_hand.append(
            f"{error}\nAsk an administrator to add, in the project's Settings > Model: name "
            f"{ML_BACKEND_TITLE}, "
            f"URL {url}" + (", Basic auth as in IMIL_BASIC_AUTH_USER and _PASSWORD." if auth else ".")
        )
