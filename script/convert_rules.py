"""Converts the device rules in the wheel ua-parser-builtins to uap-core's own schema, as JSON.

JSON is also YAML, so every reader of uap-core's regexes.yaml accepts the result. The wheel's Python is
read as text and never run: each rule is a call with literal arguments.
"""

import ast
import json
import sys
import zipfile

FIELDS = {
    "UserAgentMatcher": (
        "user_agent_parsers",
        ["regex", "family_replacement", "v1_replacement", "v2_replacement", "v3_replacement", "v4_replacement"],
    ),
    "OSMatcher": (
        "os_parsers",
        ["regex", "os_replacement", "os_v1_replacement", "os_v2_replacement", "os_v3_replacement", "os_v4_replacement"],
    ),
    "DeviceMatcher": (
        "device_parsers",
        ["regex", "regex_flag", "device_replacement", "brand_replacement", "model_replacement"],
    ),
}


def main() -> None:
    with zipfile.ZipFile(sys.argv[1]) as wheel:
        source = wheel.read("ua_parser_builtins/matchers.py").decode()
    rules: dict[str, list[dict[str, str]]] = {section: [] for section, _ in FIELDS.values()}
    for call in ast.walk(ast.parse(source)):
        if not isinstance(call, ast.Call):
            continue
        section, fields = FIELDS[call.func.id]
        values = [ast.literal_eval(argument) for argument in call.args]
        if call.keywords or len(values) > len(fields):
            sys.exit(f"a rule has an unknown form: {ast.unparse(call)}")
        rules[section].append({name: value for name, value in zip(fields, values) if value is not None})
    if not all(rules.values()):
        sys.exit("a section of the rules is empty")
    # The first rule that matches wins. ast.walk goes breadth first, which keeps the order of a list.
    json.dump(rules, sys.stdout, indent=0, ensure_ascii=False)


main()
