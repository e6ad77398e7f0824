"""Sends one event of each type by Snowplow's tracker for Python, until all are taken.

Arguments: the collector's URL, and `get` or `post`. Prints each failed request.
"""

import sys
import time

from snowplow_tracker import (
    Emitter,
    PagePing,
    PageView,
    SelfDescribing,
    SelfDescribingJson,
    StructuredEvent,
    Subject,
    Tracker,
)

endpoint, method = sys.argv[1:]
taken = []
emitter = Emitter(
    endpoint,
    method=method,
    batch_size=2,
    max_retry_delay_seconds=1,
    on_success=taken.extend,
    on_failure=lambda sent, unsent: print("failed", len(unsent), flush=True),
)
subject = Subject().set_user_id("user-42").set_domain_user_id("device-1")
tracker = Tracker("test", emitter, app_id="shop", encode_base64=method == "get", subject=subject)
context = [SelfDescribingJson("iglu:com.acme/user/jsonschema/1-0-0", {"namn": "Åsa"})]
event = SelfDescribingJson("iglu:com.acme/viewed_product/jsonschema/1-0-0", {"price": 49.95})
page = "https://shop.example/p/1"
tracker.track(PageView(page_url=page, page_title="Räksmörgås & co", context=context))
tracker.track(PagePing(page_url=page, max_y=420))
tracker.track(StructuredEvent(category="Mixes", action="Play", value=4.5))
tracker.track(SelfDescribing(event_json=event, context=context))
# The store is empty while a retry is on its way, too.
while len(taken) < 4:
    emitter.flush()
    time.sleep(0.1)
