#!/usr/bin/env python3
"""Fills the demo with invented visitors, so that its segments have members.

    script/fill_demo.py http://127.0.0.1:8080 [MARK]

Each visitor opens the demo site, half of them put a phone into the cart, and a third buy one. Every
hit is marked: its parameter `invented` is `yes`, and its page lies below https://invented.example/.
With MARK, a file, nothing is done if it is there, and it is made at the end.
"""

import http.client
import pathlib
import sys
import time
import urllib.parse

VISITORS = 200
# How long to wait for the collector to start.
PATIENCE_SECONDS = 120
AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36"


def connect(origin):
    """Returns a connection to a collector that answers."""
    host = urllib.parse.urlsplit(origin).netloc
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        connection = http.client.HTTPConnection(host, timeout=10)
        try:
            connection.request("GET", "/health")
            connection.getresponse().read()
            return connection
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(1)


def ask(connection, path, visitor, cookie):
    """Sends one request as a visitor. Returns the cookie that the visitor has then."""
    # Addresses for benchmarks (RFC 2544), each visitor's own.
    headers = {"User-Agent": AGENT, "X-Forwarded-For": f"198.18.{visitor // 250}.{visitor % 250 + 1}"}
    if cookie:
        headers["Cookie"] = cookie
    connection.request("GET", path, headers=headers)
    reply = connection.getresponse()
    reply.read()
    if reply.status >= 400:
        raise SystemExit(f"{path}: {reply.status} {reply.getheader('Avtryck-Refusal')}")
    given = reply.getheader("Set-Cookie")
    return given.split(";")[0] if given else cookie


def hit(**fields):
    """Returns the path of a marked hit."""
    return "/p.gif?" + urllib.parse.urlencode({"site": "demo", "invented": "yes", **fields})


def main():
    origin = sys.argv[1]
    mark = pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else None
    if mark and mark.exists():
        return
    connection = connect(origin)
    for visitor in range(VISITORS):
        cookie = ask(connection, "/id?site=demo", visitor, "")
        page = f"https://invented.example/{visitor}"
        cookie = ask(connection, hit(u=page), visitor, cookie)
        if visitor % 2 == 0:
            cookie = ask(connection, hit(u=page, e="add_to_cart", product="phone-12"), visitor, cookie)
        if visitor % 3 == 0:
            cookie = ask(connection, hit(u=page, e="purchase", id=f"invented-{visitor}", value=8990, currency="SEK"), visitor, cookie)
    if mark:
        mark.touch()
    print(f"{VISITORS} invented visitors were here; segments find them within a minute", file=sys.stderr)


main()
