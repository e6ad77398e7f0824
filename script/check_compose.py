"""Checks a compose file against the schema of its specification, and that its mounts exist.

python3 script/check_compose.py SCHEMA.json compose.yaml
"""

import json
import pathlib
import sys

import jsonschema
import yaml

schema, path = (pathlib.Path(argument) for argument in sys.argv[1:])
compose = yaml.safe_load(path.read_text())
validator = jsonschema.Draft7Validator(json.loads(schema.read_text()))
wrong = [f"{'.'.join(map(str, error.absolute_path))}: {error.message}" for error in validator.iter_errors(compose)]
services = compose.get("services", {})
for name, service in services.items():
    for volume in service.get("volumes", []):
        source = volume.split(":")[0]
        if source.startswith("."):
            if not (path.parent / source).exists():
                wrong.append(f"{name}: {source} does not exist")
        elif source not in compose.get("volumes", {}):
            wrong.append(f"{name}: the volume {source} is not declared")
    wrong += [f"{name}: there is no service {other}" for other in service.get("depends_on", []) if other not in services]
    # Without an exact version, tomorrow's image may be another one.
    image = service.get("image")
    if image and (":" not in image or image.endswith(":latest")):
        wrong.append(f"{name}: {image} has no version")
print("\n".join(wrong))
sys.exit(bool(wrong))
