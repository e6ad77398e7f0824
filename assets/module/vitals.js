// Sends the Core Web Vitals of a page load, once, when the page is first left.
use(tag => {
  let lcp_msec;
  let cls;
  let sum = 0;
  let begun = 0;
  let last = 0;
  // Only "event" minds the threshold. A browser passes over a type that it does not know.
  const observe = (type, take) => new PerformanceObserver(list => list.getEntries().forEach(take))
    .observe({ type, buffered: true, durationThreshold: 16 });
  observe('largest-contentful-paint', entry => lcp_msec = entry.startTime);
  // Shifts count in windows of at most five seconds without a second's pause; the worst window is the page's.
  observe('layout-shift', ({ value, startTime, hadRecentInput }) => {
    if (hadRecentInput) return;
    if (startTime - last > 1e3 || startTime - begun > 5e3) {
      sum = 0;
      begun = startTime;
    }
    last = startTime;
    sum += value;
    if (!(cls > sum)) cls = sum;
  });
  const slow = {}; // the longest duration, by interaction
  observe('event', ({ interactionId, duration }) => {
    if (interactionId && !(slow[interactionId] > duration)) slow[interactionId] = duration;
  });
  // The tag itself sends what waits at this event, on the window.
  document.addEventListener('visibilitychange', () => {
    // A page that comes into view now was drawn ahead, or late, for nobody.
    if (document.hidden && lcp_msec) avtryck('event', 'web_vitals', {
      lcp_msec,
      // Of many interactions one in fifty may be worse.
      inp_msec: Object.values(slow).sort((a, b) => a - b).slice(~(performance.interactionCount / 50))[0],
      cls,
    }, { site: tag.site });
  }, { once: true });
});
