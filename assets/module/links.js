// Gives links to other hosts a token by which the visitor is known again there.
use(tag => {
  const hosts = (tag.hosts + '').split(','); // of the configuration, or of an attribute
  const tokens = {};
  const find = event => event.composedPath().find(({ host }) => hosts.includes(host)) || {};
  // Asked for before the click, which waits for nothing.
  const ask = event => {
    const { host } = find(event);
    if (!host || tokens[host] || !tag.stores()) return;
    const got = tokens[host] = {};
    // It is good for a minute.
    setTimeout(() => delete tokens[host], 5e4);
    fetch(tag.base + tag.link + new URLSearchParams(Object.assign({ to: host }, tag.said)), { credentials: 'include' })
      .then(reply => reply.ok && reply.text())
      .then(text => got.token = text)
      .catch(() => {});
  };
  ['pointerover', 'pointerdown', 'focusin'].forEach(name => addEventListener(name, ask, true));
  addEventListener('click', event => {
    const link = find(event);
    const { href, host, search } = link;
    const { token } = tokens[host] || {};
    if (!token) return;
    delete tokens[host]; // it is good for one use
    link.search = search + (search ? '&' : '?') + 'avlink=' + token;
    setTimeout(() => link.href = href);
  }, true);
});
