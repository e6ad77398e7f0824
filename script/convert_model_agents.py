"""Prints what the tests in the wheel of device-detector expect of phones and tablets: agent, maker and name a line.

The fixtures are YAML of one form, so that no library is needed to read them.
"""

import json
import re
import sys
import zipfile

FOLDER = "device_detector/tests/fixtures/upstream/"
TYPES = {"smartphone", "tablet", "phablet", "feature phone", "portable media player"}
FIELD = re.compile(r"^( *)(?:- )?([a-z_]+):(?: (.*))?$")


def scalar(text: str) -> str:
    if text.startswith('"'):
        return json.loads(text)
    return text[1:-1].replace("''", "'") if text.startswith("'") else text


def entries(text: str):
    """Yields what each test says of the device."""
    entry: dict[str, str] = {}
    section = ""
    for line in text.splitlines():
        if re.match(r"^- *$|^-\s", line):
            yield entry
            entry, section = {}, ""
            line = " " + line[1:]
        found = FIELD.match(line)
        if not found:
            continue
        depth, name, value = found.groups()
        if len(depth) <= 2:
            section = name
        if name == "user_agent" or section == "device" and name in {"type", "brand", "model"}:
            entry[name] = (value or "").strip()
    yield entry


def main() -> None:
    seen = set()
    with zipfile.ZipFile(sys.argv[1]) as wheel:
        for path in sorted(wheel.namelist()):
            if not (path.startswith(FOLDER) and path.endswith(".yml")):
                continue
            for entry in entries(wheel.read(path).decode()):
                try:
                    fields = {name: scalar(value) for name, value in entry.items()}
                except ValueError:
                    continue
                row = [fields.get(name, "") for name in ("user_agent", "brand", "model")]
                if fields.get("type") in TYPES and all(row) and row[0] not in seen and "\t" not in "".join(row):
                    seen.add(row[0])
                    print("\t".join(row))
    if len(seen) < 20000:
        sys.exit("the wheel no longer has the tests that it had")


main()
