// Keeps hits while the line is down, for a day: in memory, and between pages on the device if the visitor permits to store.
use(tag => {
  // No site has a colon in its key.
  const key = 'avtryck.' + tag.site + ':';
  const since = new WeakMap(); // when a hit began to wait
  const isYoung = time => Date.now() - time < 864e5;
  const add = time => hit => {
    since.set(hit, time);
    tag.add(hit);
  };
  // Each page that was left has an item of its own, so two of them need not share one.
  const items = () => Object.keys(localStorage).filter(name => !name.indexOf(key));
  const take = () => items().map(name => {
    const kept = localStorage[name];
    const time = parseInt(name.slice(key.length));
    localStorage.removeItem(name);
    if (tag.stores() && isYoung(time)) JSON.parse(kept).forEach(add(time));
  });
  const back = () => {
    const taken = () => {
      try {
        return take().length;
      } catch (e) {} // in a sandbox there is no storage
    };
    // Another tab that comes back at the same time takes what is left, once it can see that the rest is gone.
    const claim = () => taken() && new Promise(done => setTimeout(done, 1000, tag.flush()));
    if (navigator.locks) navigator.locks.request(key, claim).catch(claim);
    else claim();
    tag.flush();
  };
  tag.held = leaving => {
    const now = Date.now();
    const had = tag.waiting.length;
    const young = tag.waiting.filter(hit => isYoung(since.get(hit) || since.set(hit, now) && now));
    tag.waiting.splice(0, had, ...young);
    if (navigator.onLine) return had && !young[0];
    try {
      if (leaving && young[0] && items().length < 20 && tag.stores() && ![].toJSON) {
        localStorage[key + now + '-' + Math.random()] = JSON.stringify(young);
        tag.waiting.length = 0;
      }
    } catch (e) {} // no storage, no room, or an odd hit: memory it is
    return true;
  };
  addEventListener('online', back);
  addEventListener('pageshow', back);
  document.addEventListener('visibilitychange', () => document.hidden || back());
  back();
});
