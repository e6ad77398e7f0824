// Sends an event when somebody follows a link to another host.
use(tag => {
  const follow = event => {
    const link = event.button < 2 && event.target.closest && event.target.closest('a[href]');
    // Queries and fragments may hold secrets.
    if (link && /^http/.test(link.protocol) && link.host !== location.host) avtryck('event', 'outbound_click', { link_url: link.origin + link.pathname, link_domain: link.hostname }, { site: tag.site });
  };
  // A page may stop the event on its way up, so this listens on its way down.
  addEventListener('click', follow, true);
  addEventListener('auxclick', follow, true);
});
