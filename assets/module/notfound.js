// Sends an event on a page that the server answered with 404 or 410, or that says so in <meta name="avtryck-status">.
use(tag => {
  const meta = document.querySelector('meta[name=avtryck-status]');
  const [load = {}] = performance.getEntriesByType('navigation');
  const status = +(meta ? meta.content : load.responseStatus);
  if (status === 404 || status === 410) avtryck('event', 'page_not_found', { status }, { site: tag.site });
});
