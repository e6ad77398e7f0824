// Sends one event of each type by Snowplow's tracker for Node.js, until all are taken.
// Arguments: the collector's URL, and `get` or `post`. Prints each failed request.
const { setTimeout: sleep } = require('node:timers/promises');
const snowplow = require('@snowplow/node-tracker');

const [endpoint, eventMethod] = process.argv.slice(2);
let left = 6;
const tracker = snowplow.newTracker(
  { namespace: 'test', appId: 'shop', encodeBase64: eventMethod === 'get' },
  {
    endpoint,
    eventMethod,
    bufferSize: 4,
    onRequestSuccess: (events) => { left -= events.length; },
    onRequestFailure: ({ status, willRetry }) => console.log('failed', status, willRetry),
  },
);
tracker.setUserId('user-42');
tracker.setDomainUserId('device-1');
const page = { pageUrl: 'https://shop.example/p/1', pageTitle: 'Räksmörgås & co' };
const event = { schema: 'iglu:com.acme/viewed_product/jsonschema/1-0-0', data: { price: 49.95 } };
const context = [{ schema: 'iglu:com.acme/user/jsonschema/1-0-0', data: { namn: 'Åsa' } }];
tracker.track(snowplow.buildPageView(page), context);
tracker.track(snowplow.buildPagePing({ ...page, maxYOffset: 420 }));
tracker.track(snowplow.buildStructEvent({ category: 'Mixes', action: 'Play', value: 4.5 }));
tracker.track(snowplow.buildSelfDescribingEvent({ event }), context);
tracker.track(snowplow.buildEcommerceTransaction({ orderId: 'order-7', total: 19.99, currency: 'EUR' }));
tracker.track(snowplow.buildEcommerceTransactionItem({ orderId: 'order-7', sku: 'A', price: 9.99 }));

(async () => {
  while (left > 0) {
    await tracker.flush();
    await sleep(100);
  }
})();
