"""What a project is deployed with: image, compose.yaml, systemd unit, Kubernetes manifests, lock file."""

import re

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from app.bff import BffSettings
from app.bff.settings.load import known_names

DEPLOYED = [f"requirements/{name}.txt" for name in ("bff", "app", "speed", "metrics", "tracing")]
FILES = (
    "Dockerfile",
    "compose.yaml",
    "deploy/bff.service",
    "deploy/kubernetes.yaml",
    ".devcontainer/devcontainer.json",
)
USER = 10001  # of the image, and of the pods


def requirements(text):
    lines = [line.split(" #")[0].strip() for line in text.splitlines()]
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


@pytest.fixture(scope="module")
def lock(project):
    """The locked versions by name, and the text."""
    text = (project / "requirements/lock.txt").read_text(encoding="utf-8")
    pins = re.findall(r"^([a-z0-9._-]+)==([^\s;]+)", text, re.MULTILINE)
    return {canonicalize_name(name): Version(version) for name, version in pins}, text


@pytest.mark.parametrize("file", DEPLOYED)
def test_the_lock_file_has_every_requirement_in_a_version_that_is_allowed(project, lock, file):
    versions, _ = lock
    listed = requirements((project / file).read_text(encoding="utf-8"))

    assert [
        str(each)
        for each in listed
        if versions.get(canonicalize_name(each.name), Version("0")) not in each.specifier
    ] == []


def test_the_lock_file_has_hashes_and_names_no_index(lock):
    versions, text = lock

    assert text.count("--hash=sha256:") > len(versions)
    assert re.findall(r"^([a-z0-9._-]+==[^\\\n]+)$", text, re.MULTILINE) == []  # without a hash after it
    assert "://" not in text
    assert "--index" not in text


@pytest.mark.parametrize("file", FILES)
def test_every_setting_that_a_file_names_exists(project, file):
    named = set(re.findall(r"\bBFF_[A-Z_]+\b", (project / file).read_text(encoding="utf-8")))

    assert named <= set(known_names(BffSettings))


def test_the_image_runs_as_a_user_without_privileges_from_what_is_locked(project):
    lines = (project / "Dockerfile").read_text(encoding="utf-8").splitlines()

    assert f"USER {USER}" in lines
    assert any("--require-hashes --requirement requirements/lock.txt" in line for line in lines)
    assert sum(line.startswith("FROM ") for line in lines) == 2
    assert "HEALTHCHECK" in "".join(lines)


def test_only_what_is_listed_gets_into_a_build(project):
    first, *rules = [
        line
        for line in (project / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    ]

    assert first == "*"
    assert {rule[1:] for rule in rules if rule.startswith("!")} >= {
        "app",
        "static",
        "templates",
        "requirements",
    }
    assert not any("env" in rule or "secrets" in rule for rule in rules if rule.startswith("!"))


def test_compose_has_three_members_two_applications_and_nothing_that_writes_or_gains_privileges(project):
    compose = yaml.safe_load((project / "compose.yaml").read_text(encoding="utf-8"))
    services = compose["services"]
    app = services["app"]

    assert sum(name.startswith("mongo") for name in services) == 3
    assert app["deploy"]["replicas"] == 2
    assert (app["read_only"], services["nginx"]["read_only"]) == (True, True)
    assert all(
        "no-new-privileges:true" in services[name]["security_opt"] for name in ("app", "nginx", "mongo1")
    )
    assert "ports" not in app
    assert compose["networks"]["database"]["internal"] is True


def test_no_secret_stands_in_an_environment(project):
    compose = yaml.safe_load((project / "compose.yaml").read_text(encoding="utf-8"))
    manifests = list(yaml.safe_load_all((project / "deploy/kubernetes.yaml").read_text(encoding="utf-8")))
    config = next(each["data"] for each in manifests if each["kind"] == "ConfigMap")

    for name in ("BFF_CLIENT_SECRET", "BFF_ENCRYPTION_KEYS"):
        assert f"{name}_FILE" in compose["services"]["app"]["environment"]
        assert f"{name}_FILE" in config
        assert name not in {*compose["services"]["app"]["environment"], *config}


def test_kubernetes_probes_drains_and_keeps_one_pod(project):
    manifests = list(yaml.safe_load_all((project / "deploy/kubernetes.yaml").read_text(encoding="utf-8")))
    by_kind = {each["kind"]: each["spec"] for each in manifests if "spec" in each}
    pod = by_kind["Deployment"]["template"]["spec"]
    [container] = pod["containers"]

    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert pod["terminationGracePeriodSeconds"] > 5 + 30  # until no request arrives, and for those in flight
    assert (pod["securityContext"]["runAsUser"], container["securityContext"]["readOnlyRootFilesystem"]) == (
        USER,
        True,
    )
    assert by_kind["PodDisruptionBudget"]["minAvailable"] == 1
