// Sends events by Matomo's tracker for Node.js. It repeats nothing itself, so a list that was not
// taken is sent again here.
// Arguments: the URL of the endpoint, and `track` or `bulk`. Prints each failed request.
const { setTimeout: sleep } = require('node:timers/promises');
const MatomoTracker = require('matomo-tracker');

const [endpoint, method] = process.argv.slice(2);
const event = (number, more) => ({
  url: `https://shop.example/p/${number}`,
  action_name: 'Räksmörgås & co',
  rand: `4711${number}`,
  _id: 'e7f46de8fb0b1385',
  uid: 'user-42',
  ...more,
});
const events = () => [
  event(1),
  event(2, { e_c: 'Videos', e_a: 'Play', e_v: 12.5 }),
  event(3, { idgoal: 0, ec_id: 'order-7', revenue: 19.99 }),
  event(4, { search: 'skor' }),
];

const sendList = () => new Promise((resolve) => {
  const tracker = new MatomoTracker(1, endpoint);
  let failed = false;
  tracker.on('error', (status) => {
    console.log('failed', status);
    failed = true;
  });
  tracker.trackBulk(events(), (reply) => resolve(!failed && JSON.parse(reply).tracked === 4));
});

(async () => {
  if (method === 'track') {
    const tracker = new MatomoTracker(1, endpoint);
    tracker.on('error', (status) => console.log('failed', status));
    events().forEach((one) => tracker.track(one));
    return;
  }
  while (!await sendList()) await sleep(100);
})();
