// Sends the Core Web Vitals of a page load, once, when the page is first left.
use(tag => {
  const found = {};
  const observe = (type, take) => {
    // Only "event" minds the threshold. A browser passes over a type that it does not know.
    new PerformanceObserver(list => list.getEntries().forEach(take)).observe({ type, buffered: true, durationThreshold: 16 });
  };
  observe('largest-contentful-paint', entry => found.lcp_msec = entry.startTime);
  // Shifts count in windows of at most five seconds without a second's pause; the worst window is the page's.
  let sum = 0;
  let begun = 0;
  let last = 0;
  observe('layout-shift', ({ value, startTime, hadRecentInput }) => {
    if (hadRecentInput) return;
    if (startTime - last > 1e3 || startTime - begun > 5e3) {
      sum = 0;
      begun = startTime;
    }
    last = startTime;
    sum += value;
    found.cls = Math.max(found.cls || 0, sum);
  });
  // Of many interactions one in fifty may be worse.
  const slow = {}; // the longest duration, by interaction
  observe('event', ({ interactionId, duration }) => {
    if (interactionId) slow[interactionId] = Math.max(slow[interactionId] || 0, duration);
  });
  addEventListener('visibilitychange', () => {
    found.inp_msec = Object.values(slow).sort((a, b) => b - a)[performance.interactionCount / 50 | 0];
    if (found.lcp_msec) avtryck('event', 'web_vitals', found, { site: tag.site });
  }, { capture: true, once: true });
});
