// Sends a call of each type by the SDK of Segment or RudderStack for Node.js, until all are taken.
// Arguments: the collector's URL, and `segment` or `rudderstack`. Prints each call that was given up.
const [url, maker] = process.argv.slice(2);
const user = { userId: 'user-42', anonymousId: 'device-1' };
const calls = [
  ['identify', { ...user, traits: { email: 'anna@shop.example', plan: 'pro' } }],
  ['track', { ...user, event: 'Order Completed', properties: { order_id: 'order-7', revenue: 19.99 } }],
  ['page', { ...user, name: 'Docs', properties: { url: 'https://shop.example/docs' } }],
  ['screen', { ...user, name: 'Cart' }],
  ['group', { ...user, groupId: 'g1', traits: { name: 'Initech' } }],
  ['alias', { ...user, previousId: 'x1' }],
];
const report = (error) => { if (error) console.log('given up', String(error.message ?? error)); };

async function sendBySegment() {
  const { Analytics } = require('@segment/analytics-node');
  const analytics = new Analytics({ writeKey: 'wk_123', host: url, flushAt: 2, flushInterval: 50 });
  analytics.on('error', report);
  for (const [type, call] of calls) analytics[type](call);
  await analytics.closeAndFlush({ timeout: 50_000 });
}

async function sendByRudderStack() {
  const Analytics = require('@rudderstack/rudder-sdk-node');
  // By itself it gives up after 3 tries within 4 seconds.
  const options = { dataPlaneUrl: url, flushAt: 2, flushInterval: 50, retryCount: 10 };
  const analytics = new Analytics('wk_123', options);
  const taken = calls.map(([type, call]) => new Promise((resolve) => {
    analytics[type](call, (error) => { report(error); resolve(); });
  }));
  await Promise.all(taken);
}

(maker === 'segment' ? sendBySegment() : sendByRudderStack()).then(() => process.exit(0));
