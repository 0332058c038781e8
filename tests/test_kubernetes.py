"""The Helm chart, by the real Helm and Kubernetes' own schemas; no cluster is needed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from test_containers import our_settings

import imil_backend
from imil_backend.config import Settings
from imil_backend.loop.base import timestamps

pytestmark = pytest.mark.external
CHART = Path(__file__).parents[1] / "docker" / "helm"
HELM = Path(sys.executable).with_name("helm")
RELEASES = ("1.25", "1.31")  # of Kubernetes: the oldest that the chart names, and a later one
NEEDED = {"secret": "imil-secrets", "labelStudio.url": "http://label-studio.default.svc:8080"}
POSTGRESQL = {"postgresql": "true", "worker.replicas": 3}
NO_SCHEMA = {"ServiceMonitor"}  # the Prometheus Operator's


def helm(command: str, values: dict[str, Any], *words: str) -> subprocess.CompletedProcess[str]:
    given = [word for name, value in values.items() for word in ("--set", f"{name}={value}")]
    return subprocess.run(
        [HELM, *command.split(), CHART, *given, *words], capture_output=True, text=True, check=False
    )


def manifests(**values: Any) -> dict[str, Any]:
    """What is applied to the cluster, by kind and name."""
    shown = helm("template imil", NEEDED | {name.replace("__", "."): value for name, value in values.items()})
    assert shown.returncode == 0, shown.stderr
    found = [each for each in yaml.safe_load_all(shown.stdout) if each]
    return {f"{each['kind']} {each['metadata']['name']}": each for each in found}


def pods(found: dict[str, Any]) -> dict[str, Any]:
    """The pods that are started, by kind and name."""
    return {
        name: each["spec"]["template"]["spec"]
        for name, each in found.items()
        if each["kind"] in {"Deployment", "StatefulSet", "Job"}
    }


def environment(container: dict[str, Any]) -> dict[str, Any]:
    return {each["name"]: each.get("value") for each in container["env"]}


@pytest.mark.parametrize("values", [{}, POSTGRESQL], ids=["sqlite", "postgresql"])
def test_helm_and_kubernetes_accept_the_chart(values: dict[str, Any]) -> None:
    linted = helm("lint --strict", NEEDED | values)
    assert linted.returncode == 0, linted.stdout
    found = manifests(**values, serviceMonitor__enabled="true", datasetClaim="films", worker__gpus=2)
    for each in found.values():
        if each["kind"] not in NO_SCHEMA:
            for release in RELEASES:
                kubernetes_validate.validate(each, release, strict=True)


def test_without_postgresql_one_pod_alone_writes_the_database() -> None:
    found = manifests(worker__replicas=3)
    assert list(pods(found)) == ["StatefulSet imil-worker"]
    assert found["StatefulSet imil-worker"]["spec"]["replicas"] == 1
    assert [each["name"] for each in pods(found)["StatefulSet imil-worker"]["containers"]] == [
        "web",
        "worker",
    ]
    assert found["PersistentVolumeClaim imil-data"]["spec"]["accessModes"] == ["ReadWriteOnce"]


def test_with_postgresql_web_pods_and_workers_share_a_volume() -> None:
    found = manifests(**POSTGRESQL)
    assert set(pods(found)) == {"Deployment imil-web", "StatefulSet imil-worker", "Job imil-migration"}
    assert found["StatefulSet imil-worker"]["spec"]["replicas"] == 3
    assert found["PersistentVolumeClaim imil-data"]["spec"]["accessModes"] == ["ReadWriteMany"]
    hooks = found["Job imil-migration"]["metadata"]["annotations"]
    assert hooks["helm.sh/hook"] == "pre-upgrade"


@pytest.mark.parametrize("values", [{}, POSTGRESQL], ids=["sqlite", "postgresql"])
def test_services_and_budgets_choose_the_pods_that_answer(values: dict[str, Any]) -> None:
    found = manifests(**values)
    templates = {
        name: each["spec"]["template"]
        for name, each in found.items()
        if each["kind"] in {"Deployment", "StatefulSet"}
    }
    for service, port, pod in (
        ("Service imil", "http", "Deployment imil-web" if values else "StatefulSet imil-worker"),
        ("Service imil-worker", "metrics", "StatefulSet imil-worker"),
    ):
        wanted = found[service]["spec"]["selector"].items()
        chosen = [name for name, each in templates.items() if wanted <= each["metadata"]["labels"].items()]
        assert chosen == [pod]
        ports = [each for one in templates[pod]["spec"]["containers"] for each in one["ports"]]
        assert port in [each["name"] for each in ports]
    for name, each in found.items():
        if each["kind"] == "PodDisruptionBudget":
            labels = each["spec"]["selector"]["matchLabels"].items()
            assert sum(labels <= pod["metadata"]["labels"].items() for pod in templates.values()) == 1, name


def test_workers_have_stable_ids_and_a_heartbeat() -> None:
    (worker,) = pods(manifests(**POSTGRESQL))["StatefulSet imil-worker"]["containers"]
    assert worker["args"] == ["worker", "--id", "$(POD_NAME)"]
    check = worker["livenessProbe"]["exec"]["command"][-1]
    assert f'"/data/{timestamps.FOLDER}/{timestamps.WORKER}-$POD_NAME"' in check


def test_a_training_uses_the_gpus_of_its_worker() -> None:
    (worker,) = pods(manifests(**POSTGRESQL, worker__gpus=4))["StatefulSet imil-worker"]["containers"]
    assert worker["resources"]["limits"] == {"memory": "16Gi", "nvidia.com/gpu": 4}
    assert environment(worker)["IMIL_TRAINING_PROCESSES"] == "4"


def test_workers_that_train_together_reach_each_other_on_all_ports() -> None:
    alone, together = (manifests(**POSTGRESQL, settings__IMIL_TRAINING_NODES=nodes) for nodes in (1, 2))
    (added,) = together.keys() - alone.keys()
    spec = together[added]["spec"]
    workers = together["StatefulSet imil-worker"]["spec"]["selector"]
    assert spec["podSelector"] == workers
    assert spec["ingress"] == [{"from": [{"podSelector": workers}]}]
    kubernetes_validate.validate(together[added], RELEASES[0], strict=True)


@pytest.mark.parametrize("values", [{}, POSTGRESQL], ids=["sqlite", "postgresql"])
def test_containers_have_settings_that_exist_and_no_rights(values: dict[str, Any]) -> None:
    for pod in pods(manifests(**values, settings__IMIL_LOG_FORMAT="json")).values():
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["fsGroup"] == 10001
        for container in pod["containers"]:
            names = environment(container).keys() - {"POD_NAME"}
            assert names <= our_settings()
            assert environment(container)["IMIL_LOG_FORMAT"] == "json"
            assert container["securityContext"]["readOnlyRootFilesystem"]
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert "memory" in container["resources"]["limits"]
            mounted = {each["name"] for each in container["volumeMounts"]}
            assert mounted == {each["name"] for each in pod["volumes"]}


def test_keys_of_the_secret_are_settings() -> None:
    text = (CHART / "values.yaml").read_text(encoding="utf-8")
    names = {"label_studio_api_key", "imil_basic_auth_password", "imil_metrics_token", "imil_database_url"}
    for name in names:
        assert name in text
        assert name.upper() in our_settings()


def test_label_studio_accepts_the_address() -> None:
    (_, worker) = pods(manifests())["StatefulSet imil-worker"]["containers"]
    url = environment(worker)["IMIL_PUBLIC_URL"]
    assert url == "http://imil.default.svc:9090"
    assert Settings(_env_file=None, public_url=url).own_names >= {"imil.default.svc"}


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"labelStudio.url": "http://ls.svc"}, "Set secret to the name of a Secret"),
        ({"secret": "s"}, "Set labelStudio.url"),
        (NEEDED | {"worker.gpu": 1}, "worker: Additional property gpu is not allowed"),
        (NEEDED | {"settings.HOST": "x"}, "settings"),
    ],
)
def test_wrong_values_are_told(values: dict[str, Any], told: str) -> None:
    shown = helm("template imil", values)
    assert shown.returncode != 0
    assert told in shown.stderr


def test_the_chart_has_the_version_of_the_package() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    assert chart["version"] == chart["appVersion"] == imil_backend.__version__
