#!/usr/bin/env python3
"""Turns the archive of npm's @ip-location-db/asn into one file in MaxMind's format.

  geoip/asn_mmdb.py ARCHIVE FILE

The archive has CSV alone: first address, last address, number of the autonomous system, its name. The file has both
address families in one tree, IPv4 under ::/96, as GeoLite2-ASN has them. The same archive gives the same file.
"""

import csv
import datetime
import io
import ipaddress
import json
import re
import sys
import tarfile
import zlib
from pathlib import Path

# `avtryck` finds by this word whose data they are.
DATABASE_TYPE = "ASN of RouteViews, NRO and DB-IP"
FAMILIES = {"asn-ipv4.csv": ipaddress.IPv4Address, "asn-ipv6.csv": ipaddress.IPv6Address}
BITS = 128
SEPARATOR = 16
TEXT, UINT16, UINT32, MAP, UINT64, ARRAY = 2, 5, 6, 7, 9, 11
NUMBER, NAME = "autonomous_system_number", "autonomous_system_organization"


class Malformed(Exception):
    """An archive that is not what it should be."""


ERRORS = (Malformed, csv.Error, tarfile.TarError, EOFError, KeyError, OSError, UnicodeError, zlib.error)


def control(kind, size):
    """Returns the bytes before a value: its type and size."""
    extended = b"" if kind <= 7 else bytes([kind - 7])
    front = 0 if extended else kind << 5
    if size < 29:
        return bytes([front | size]) + extended
    if size < 285:
        return bytes([front | 29]) + extended + bytes([size - 29])
    return bytes([front | 30]) + extended + (size - 285).to_bytes(2, "big")


def encode(value, kind=None):
    """Encodes a value in MaxMind's format."""
    if isinstance(value, str):
        value = value.encode()
        return control(TEXT, len(value)) + value
    if isinstance(value, dict):
        return control(MAP, len(value)) + b"".join(encode(key) + item for key, item in value.items())
    if isinstance(value, list):
        return control(ARRAY, len(value)) + b"".join(map(encode, value))
    digits = value.to_bytes((value.bit_length() + 7) // 8, "big")
    return control(kind, len(digits)) + digits


class Data:
    """The records. Each is there once, and their keys are pointers to the first."""

    def __init__(self):
        keys = [encode(NUMBER), encode(NAME)]
        self.bytes = bytearray(b"".join(keys))
        self.pointers = [bytes([0x20, 0]), bytes([0x20, len(keys[0])])]
        self.offsets = {}

    def offset(self, number, name):
        """Returns where a record is."""
        if (number, name) not in self.offsets:
            self.offsets[number, name] = len(self.bytes)
            number_at, name_at = self.pointers
            self.bytes += control(MAP, 2) + number_at + encode(number, UINT32) + name_at + encode(name[:1000])
        return self.offsets[number, name]


def read(archive, member, family, data):
    """Returns the ranges of a file, each with the offset of its record, in order. One that reaches into the next ends
    before it: the published file has such a pair."""
    ranges = []
    text = io.TextIOWrapper(archive.extractfile(f"package/{member}"), "utf-8", newline="")
    for line, row in enumerate(csv.reader(text, strict=True), 1):
        try:
            first, last, number, name = row
            first, last = int(family(first)), int(family(last))
            number = int(number)
        except ValueError as error:
            raise Malformed(f"{member}, line {line}: {error}") from error
        if first > last or not 0 <= number < 1 << 32:
            raise Malformed(f"{member}, line {line}: the range ends before it begins, or the number is too large")
        if ranges and ranges[-1][1] >= first:
            before, _, offset = ranges[-1]
            if before >= first:
                raise Malformed(f"{member}, line {line}: the range begins before that of the line above")
            ranges[-1] = before, first - 1, offset
        ranges.append((first, last, data.offset(number, name)))
    return ranges


class Tree:
    """The tree of addresses: each node has a child for the next bit 0 and one for 1."""

    def __init__(self, ranges):
        self.ranges = ranges
        self.nodes = []
        self.node(0, 0, len(ranges), BITS)

    def node(self, first, begin, end, bits):
        """Returns the child for the addresses from `first` that differ in so many last bits: the number of a node,
        None for nothing, or (offset,) for a record. `begin` and `end` are those of the ranges that lie in it."""
        if begin == end:
            return None
        last = first + (1 << bits) - 1
        low, high, offset = self.ranges[begin]
        if low <= first and last <= high:
            return (offset,)
        index = len(self.nodes)
        self.nodes.append(None)
        middle = first + (1 << (bits - 1))
        # The first range that begins in the second half, and the first that reaches into it.
        after, before = begin, end
        while after < before:
            half = (after + before) // 2
            if self.ranges[half][0] < middle:
                after = half + 1
            else:
                before = half
        reaches = after - 1 if after > begin and self.ranges[after - 1][1] >= middle else after
        children = (self.node(first, begin, after, bits - 1), self.node(middle, reaches, end, bits - 1))
        if index and index == len(self.nodes) - 1 and children[0] == children[1]:
            self.nodes.pop()
            return children[0]
        self.nodes[index] = children
        return index


def convert(archive):
    """Returns the file in MaxMind's format."""
    data, ranges = Data(), []
    with tarfile.open(archive) as members:
        version = json.load(members.extractfile("package/package.json"))["version"]
        for member, family in FAMILIES.items():
            ranges.extend(read(members, member, family, data))
    built = re.search(r"\.(\d{10})$", version)
    if not ranges or not built:
        raise Malformed(f"version {version} has no ranges, or does not say when it was built")
    built = datetime.datetime.strptime(f"{built[1]}+0000", "%Y%m%d%H%z")
    nodes = Tree(sorted(ranges)).nodes
    width = 3 if len(nodes) + SEPARATOR + len(data.bytes) < 1 << 24 else 4

    def record(child):
        if isinstance(child, tuple):
            return len(nodes) + SEPARATOR + child[0]
        return len(nodes) if child is None else child

    tree = b"".join(record(child).to_bytes(width, "big") for children in nodes for child in children)
    metadata = {
        "binary_format_major_version": encode(2, UINT16),
        "binary_format_minor_version": encode(0, UINT16),
        "build_epoch": encode(int(built.timestamp()), UINT64),
        "database_type": encode(DATABASE_TYPE),
        "description": encode({"en": encode(f"npm's @ip-location-db/asn {version}")}),
        "ip_version": encode(6, UINT16),
        "languages": encode(["en"]),
        "node_count": encode(len(nodes), UINT32),
        "record_size": encode(8 * width, UINT16),
    }
    return tree + bytes(SEPARATOR) + data.bytes + b"\xab\xcd\xefMaxMind.com" + encode(metadata)


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    archive, file = map(Path, sys.argv[1:])
    try:
        file.write_bytes(convert(archive))
    except ERRORS as error:
        sys.exit(f"{archive.name} is damaged or not the expected archive: {error}")


if __name__ == "__main__":
    main()
