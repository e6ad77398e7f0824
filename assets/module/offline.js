// Keeps hits while the line is down: in memory, and between pages on the device if the visitor permits to store.
use(tag => {
  const key = 'avtryck.' + tag.site;
  const take = () => {
    const kept = localStorage[key] || '[]';
    localStorage.removeItem(key);
    if (tag.stores()) JSON.parse(kept).forEach(tag.add);
  };
  const back = () => {
    try {
      take();
    } catch (e) {} // in a sandbox there is no storage
    tag.flush();
  };
  tag.held = leaving => {
    if (navigator.onLine) return;
    try {
      if (leaving && tag.stores() && ![].toJSON) {
        take();
        localStorage[key] = JSON.stringify(tag.waiting);
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
