// Sends an event for each of the first five errors of a page that nothing caught.
use(tag => {
  let left = 5;
  const tell = tag.safe((message, url, line, column) => {
    // Any other address may be the script itself (data:).
    const [source] = /^http[^?#]*/.exec(url) || [];
    // What is thrown need not be a text, nor have one.
    if (left-- > 0) avtryck('event', 'js_error', { message: String(message).slice(0, 200), source, line, column }, { site: tag.site });
  });
  addEventListener('error', ({ message, filename, lineno, colno }) => message && tell(message, filename, lineno, colno));
  addEventListener('unhandledrejection', ({ reason }) => tell(reason));
});
