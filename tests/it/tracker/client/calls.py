"""Sends a call of each type by the SDK of Segment or RudderStack for Python, until all are taken.

Arguments: the collector's URL, and `segment` or `rudderstack`. Prints each call that was given up.
"""

import sys

url, maker = sys.argv[1:]
if maker == "segment":
    from segment.analytics.client import Client
else:
    from rudderstack.analytics.client import Client

client = Client(
    "wk_123",
    host=url,
    upload_interval=0.1,
    upload_size=2,
    on_error=lambda error, calls: print("given up", error, len(calls), flush=True),
)
user = {"user_id": "user-42", "anonymous_id": "device-1"}
client.identify(**user, traits={"email": "anna@shop.example", "plan": "pro"})
client.track(**user, event="Order Completed", properties={"order_id": "order-7", "revenue": 19.99})
client.page(**user, name="Docs", properties={"url": "https://shop.example/docs"})
client.screen(**user, name="Cart")
client.group(**user, group_id="g1", traits={"name": "Initech"})
client.alias("x1", "user-42")
client.shutdown()
