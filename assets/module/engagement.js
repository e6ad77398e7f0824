// Sends how long a page was in view, and for how much of that somebody used it, each time that it is left.
use(tag => {
  const { add } = tag;
  const now = () => performance.now();
  let visible = 0;
  let active = 0;
  let shown = !document.hidden;
  let then = now();
  let used = then;
  let url = tag.url();
  const count = () => {
    const time = now();
    if (shown) {
      visible += time - then;
      // Reading takes a while between two turns of a wheel.
      active += Math.max(0, Math.min(time, used + 3e4) - then);
    }
    then = time;
    shown = !document.hidden;
  };
  const leave = () => {
    const [visible_msec, engagement_msec] = [visible, active].map(Math.round);
    const u = url;
    visible = active = 0;
    url = tag.url();
    if (visible_msec > 999) avtryck('event', 'engagement', { visible_msec, engagement_msec }, { site: tag.site, u });
  };
  tag.add = hit => {
    if (url !== tag.url()) {
      count();
      leave();
    }
    add(hit);
  };
  for (const name of ['pointerdown', 'pointermove', 'keydown', 'scroll', 'wheel', 'touchstart']) {
    addEventListener(name, () => {
      count();
      used = then;
    }, { passive: true, capture: true });
  }
  // The tag itself sends what waits at this event, after this.
  document.addEventListener('visibilitychange', () => {
    count();
    if (document.hidden) leave();
    else used = then;
  }, true);
});
