// Sends the token of the link from another site that led here.
use(tag => {
  let token;
  const clean = location.href.replace(/([?&])avlink=([\w-]*)(&?)/, (all, start, found, more) => {
    token = found;
    return more && start;
  });
  if (!token) return;
  // Nobody else reads it in the address, and it leads to no page view.
  History.prototype.replaceState.call(history, history.state, '', clean);
  // After the page view, which has the visitor's ID first.
  setTimeout(() => tag.commands.page({}, { avlink: token, ref: document.referrer }));
});
