// Keeps hits in memory while the line is down, for a day.
use(tag => {
  const { held } = tag;
  const since = new WeakMap(); // when a hit began to wait
  tag.held = leaving => {
    const now = Date.now();
    const had = tag.waiting.length;
    const young = tag.waiting.filter(hit => now - (since.get(hit) || since.set(hit, now) && now) < 864e5);
    tag.waiting.splice(0, had, ...young);
    return held(leaving) || !navigator.onLine || had && !young[0];
  };
  const back = () => tag.flush();
  addEventListener('online', back);
  addEventListener('pageshow', back);
});
