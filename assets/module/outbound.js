// Sends an event when somebody follows a link to another host.
use(tag => {
  const follow = tag.safe(event => {
    // A link in an open shadow tree is not the target here, and one in an SVG has no parts.
    const { href } = event.button < 2 && event.composedPath().find(({ localName, href }) => /^a(rea)?$/.test(localName) && href) || {};
    const to = new URL(href.baseVal || href, document.baseURI);
    // Queries and fragments may hold secrets.
    if (/^http/.test(to) && to.host !== location.host) avtryck('event', 'outbound_click', { link_url: to.origin + to.pathname, link_domain: to.hostname }, { site: tag.site });
  });
  // A page may stop the event on its way up, so this listens on its way down.
  addEventListener('click', follow, true);
  addEventListener('auxclick', follow, true);
});
