"""Checks Kubernetes manifests against the schemas of the API, and that what they name is there.

python3 script/check_kubernetes.py DEFINITIONS.json FOLDER

DEFINITIONS.json has the strict JSON schemas of a release. Kinds of other groups (ServiceMonitor) have none: of those only the
ports are compared.
"""

import json
import pathlib
import sys

import jsonschema
import yaml

definitions, folder = (pathlib.Path(argument) for argument in sys.argv[1:])
wrong = []
text = definitions.read_text().replace('"_definitions.json#', '"#')
schema = json.loads(text)
schema.pop("$id", None)
kinds = {}
for name, definition in schema["$defs"].items():
    for kind in definition.get("x-kubernetes-group-version-kind", []):
        api_version = "/".join(filter(None, [kind["group"], kind["version"]]))
        kinds[api_version, kind["kind"]] = name

WITH_PODS = ("StatefulSet", "Deployment")

kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
labels = {}
for entry in kustomization["labels"]:
    labels |= entry["pairs"]
generated = {entry["name"]: entry["files"] for entry in kustomization["configMapGenerator"]}
images = {entry["name"]: entry for entry in kustomization["images"]}
documents = []
for name in kustomization["resources"]:
    documents += [(name, document) for document in yaml.safe_load_all((folder / name).read_text())]

for name, document in documents:
    kind, api_version = document["kind"], document["apiVersion"]
    definition = kinds.get((api_version, kind))
    group = api_version.rpartition("/")[0]
    if definition is None and (group.endswith(".k8s.io") or "." not in group):
        wrong.append(f"{name}: {api_version} has no {kind}")
    # Kustomize adds the labels that select pods.
    if kind in WITH_PODS:
        document["spec"]["selector"] = {"matchLabels": labels}
        document["spec"]["template"]["metadata"] = {"labels": labels}
    if definition is None:
        continue
    here = {**schema, "$ref": f"#/$defs/{definition}"}
    for error in jsonschema.Draft202012Validator(here).iter_errors(document):
        wrong.append(f"{name}: {'.'.join(map(str, error.absolute_path))}: {error.message}")

for files in generated.values():
    wrong += [f"{file} does not exist" for file in files if not (folder / file).exists()]
services = {document["metadata"]["name"] for _, document in documents if document["kind"] == "Service"}
ports = set()
for name, document in documents:
    if document["kind"] not in WITH_PODS:
        continue
    spec = document["spec"]
    if document["kind"] == "StatefulSet" and spec.get("serviceName") not in services:
        wrong.append(f"{name}: there is no service {spec.get('serviceName')}")
    pod = spec["template"]["spec"]
    claims = [claim["metadata"]["name"] for claim in spec.get("volumeClaimTemplates", [])]
    volumes = {volume["name"]: volume for volume in pod.get("volumes", [])}
    for volume in volumes.values():
        config = volume.get("configMap", {}).get("name")
        if config and config not in generated:
            wrong.append(f"{name}: there is no ConfigMap {config}")
    for container in pod["containers"]:
        ports |= {port["name"] for port in container.get("ports", [])}
        if container["image"] not in images or not images[container["image"]].get("newTag"):
            wrong.append(f"{name}: the image {container['image']} has no version")
        for mount in container.get("volumeMounts", []):
            if mount["name"] not in volumes and mount["name"] not in claims:
                wrong.append(f"{name}: there is no volume {mount['name']}")
        probes = [container[probe] for probe in container if probe.endswith("Probe")]
        for port in [probe["httpGet"]["port"] for probe in probes]:
            if port not in ports:
                wrong.append(f"{name}: there is no port {port}")


def named_ports(value):
    """Yields what manifests call ports by name."""
    if isinstance(value, dict):
        for key, below in value.items():
            if key in ("port", "targetPort") and isinstance(below, str):
                yield below
            yield from named_ports(below)
    elif isinstance(value, list):
        for below in value:
            yield from named_ports(below)


for name, document in documents:
    wrong += [f"{name}: there is no port {port}" for port in set(named_ports(document)) - ports]
print("\n".join(wrong))
sys.exit(bool(wrong))
