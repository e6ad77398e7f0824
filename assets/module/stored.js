// Keeps hits between pages while the line is down, for a day, on the device of a visitor who permits to store.
use(tag => {
  const { held, site, waiting } = tag;
  // No site has a colon in its key.
  const key = `avtryck.${site}:`;
  // Each page that was left has an item of its own, so two of them need not share one.
  const items = () => Object.keys(localStorage).filter(name => !name.indexOf(key));
  const claim = () => {
    try {
      items().map(name => {
        const kept = localStorage[name];
        delete localStorage[name];
        if (tag.stores() && Date.now() - name.split(':')[1] < 864e5) JSON.parse(kept).map(tag.add);
      });
      // Another tab that comes back at the same time takes what is left, once it can see that the rest is gone.
      return new Promise(done => setTimeout(done, 1e3, tag.flush()));
    } catch (e) {} // in a sandbox there is no storage
  };
  const back = () => {
    const { locks, onLine } = navigator;
    if (onLine) locks ? locks.request(key, claim).catch(claim) : claim();
  };
  tag.held = leaving => {
    const isHeld = held(leaving);
    try {
      if (leaving && !navigator.onLine && tag.stores() && !items()[20] && ![].toJSON) {
        // Who is logged in stays in memory alone. Whoever is when it is sent may be somebody else.
        waiting.map(hit => hit.user = hit.user_sig = '');
        localStorage[key + (Date.now() + Math.random())] = JSON.stringify(waiting);
        return !(waiting.length = 0);
      }
    } catch (e) {} // no storage, no room, or an odd hit: memory it is
    return isHeld;
  };
  addEventListener('online', back);
  back();
});
