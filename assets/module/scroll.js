// Sends an event when somebody has first scrolled through a quarter, a half, three quarters and nine tenths of a page.
use(tag => {
  const { add } = tag;
  let url;
  let left;
  let due;
  const look = () => {
    due = 0;
    const seen = 100 * (scrollY + innerHeight) / document.documentElement.scrollHeight;
    // A short page that follows a long one is moved to its top.
    while (scrollY > 0 && seen >= left[0]) avtryck('event', 'scroll', { percent_scrolled: left.shift() }, { site: tag.site });
  };
  tag.add = hit => {
    if (url !== tag.url()) {
      url = tag.url();
      left = [25, 50, 75, 90];
    }
    add(hit);
  };
  // A page that fits the screen is not scrolled.
  addEventListener('scroll', () => due = due || setTimeout(look, 200), { passive: true });
});
