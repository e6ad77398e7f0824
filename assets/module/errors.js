// Sends an event for each of the first five errors of a page that nothing caught.
use(tag => {
  let left = 5;
  const tell = (message, url, line, column) => {
    const [source] = /^[^?#]*/.exec(url || '');
    if (left-- > 0) avtryck('event', 'js_error', { message: (message + '').slice(0, 200), source, line, column }, { site: tag.site });
  };
  addEventListener('error', ({ message, filename, lineno, colno }) => message && tell(message, filename, lineno, colno));
  addEventListener('unhandledrejection', ({ reason }) => tell(reason));
});
