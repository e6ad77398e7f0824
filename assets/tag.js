// See docs/tag.md. Never throws into the page.
(function (tag, modules) {
  const { src, nonce, dataset = {} } = document.currentScript || document.querySelector('[data-collector]') || {};
  const { site, choice, collector } = Object.assign(tag, dataset);
  // An element of that ID is no function.
  const api = (window.avtryck || 0).call ? window.avtryck : window.avtryck = (...args) => q.push(args);
  const q = api.q = api.q || [];
  const name = '@' + site;
  if (q[name]) return; // included twice

  const find = (text, pattern) => (text.match(pattern) || [])[1] || '';
  // A module finds its URL in the stack: a classic script must not hold the words import.meta.
  const base = find(collector || find(src || Error().stack, '([^\\s(@]+)' + tag.tag), '(.*[^/])');
  if (!base) return console.warn('avtryck: no data-collector');

  const waiting = [];
  const hints = {};
  const clicked = find(location.search, '[?&]avclid=([^&]*)'); // the click that led here
  let from = document.referrer;
  let phase = 0; // 1: the first hit is under way, 2: it has its reply
  let route;
  let here;

  const safe = f => (...args) => {
    try {
      return f(...args);
    } catch (e) {}
  };

  // Throws in a sandbox.
  const chosen = safe(() => find('; ' + document.cookie, '; ' + choice + '=([^;]*)'));

  const flush = safe(leaving => {
    const answer = chosen();
    if (tag.ask && answer === 'none') waiting.splice(0);
    if (!waiting.length || document.prerendering || tag.wait || tag.ask && !answer || !leaving && tag.busy || tag.held(leaving)) return;
    if (leaving || phase > 1) send(waiting.splice(0));
    else if (!phase) q.turn = first(q.turn);
  });

  const moved = () => {
    if (tag.route() === route) return;
    from = here;
    view();
  };

  const ready = () => {
    tag.busy--;
    flush();
  };

  // Fetches a module that this file does not have.
  const need = name => {
    if (tag[name]) return;
    const script = document.createElement('script');
    tag.busy++;
    tag[name] = () => {}; // until it comes, if it does
    script.nonce = nonce;
    script.onload = script.onerror = ready;
    script.src = base + tag.tag + '?site=' + site + '&only=' + name;
    document.head.append(script);
  };

  // What modules use and may replace, besides the configuration.
  Object.assign(tag, {
    base,
    waiting,
    flush,
    moved,
    need,
    safe,
    busy: 1, // how many things are waited for: first of all the end of this script
    // blocked: 0 after a reply, 1 after a refusal, 2 after that of a pixel
    said: {}, // by consent platforms, passed on as it is
    stores: () => !tag.blind && /store|true/.test(chosen() || tag.blind < 1 || tag.keep && !navigator.globalPrivacyControl),
    add(hit) {
      if (waiting.push(hit) > 100) waiting.splice(Math.max(0, waiting.findIndex(hit => !hit.e)), 1);
    },
    held() {}, // true: hits wait
    route: () => location.pathname, // a change of it is a page view
    url: () => location.href.split('#')[0], // fragments may hold secrets
    post: (path, body, mode) => fetch(base + path, { method: 'POST', credentials: 'include', keepalive: true, body, mode }),
  });

  // A click is remembered for later pages.
  const click = safe(() => tag.stores() ? sessionStorage.avclid = clicked || sessionStorage.avclid || '' : clicked);

  // JSON.stringify throws at some values, and old libraries change what it writes.
  const write = safe(value => {
    const text = JSON.stringify(value);
    return ![].toJSON && text.length < 2e4 && !/\\ud/.test(text) && text;
  });

  const within = (time, promise) => new Promise(done => setTimeout(done, time, promise ? promise.then(done, done) : done()));

  // Hits sent before its reply would get other visitor IDs, whichever site's they are.
  const first = async turn => {
    phase = 1;
    hints.webdriver = !tag.blind && navigator.webdriver || undefined;
    await within(200, !tag.blind && navigator.userAgentData && navigator.userAgentData.getHighEntropyValues(['model', 'platformVersion', 'formFactors'])
      .then(got => Object.assign(hints, got)));
    await turn;
    await within(3000, send(waiting.splice(0, 1)));
    phase = 2;
    flush();
  };

  // No beacons: they do not say whether they were blocked.
  const send = async hits => {
    // What must not be cut comes first.
    const all = hits.map(hit => Object.assign({ site, e: 0, id: 0, avclid: click(), ch: hints }, tag.said, hit));
    const body = write(all);
    if (body && !tag.blocked) {
      try {
        await tag.post(tag.event, body, 'no-cors');
        return tag.blocked = 0; // it can be reached
      } catch (e) {
        if (tag.blocked === 0 || tag.held()) return hits.forEach(tag.add);
        tag.blocked = 1;
      }
    }
    if (tag.rescue) return tag.rescue(all);
    hits.forEach(tag.add);
    need('rescue');
  };

  const record = safe((name, fields, options) => {
    const hit = Object.assign({
      // The collector keeps IDs of one time together.
      id: Date.now() + '-' + Math.random(),
      u: tag.url(),
      ref: from,
      site,
    }, options, { at: undefined, e: (name + '').slice(0, 200), params: fields });
    // The page may change it.
    if (hit.site === site) tag.add(JSON.parse(write(hit) || 0) || hit);
    flush();
  });

  const view = () => {
    route = tag.route();
    here = tag.url();
    record('');
  };

  const commands = tag.commands = {
    event: (name, ...more) => name && record(name, ...more),
    page: (...more) => record('', ...more),
    consent(given) {
      const list = Array.isArray(given) ? given : Object.keys(Object(given)).filter(flag => given[flag]);
      const known = tag.flags.filter(flag => list.includes(flag));
      // Only the collector can end the cookie with the ID.
      if ((!tag.ask || chosen()) && !known.includes('store')) tag.post(tag.consent, new Blob([`{${known.map(flag => `"${flag}":true`)}}`], { type: 'application/json' }));
      document.cookie = choice + '=' + (known.join('.') || 'none') +
        ';path=/;max-age=33696000;samesite=lax' +
        ';domain=' + find('.' + location.hostname, '[.](' + tag.domain + ')$') +
        (/s:/.test(location.protocol) ? ';secure' : '');
      flush();
    },
  };

  ['pushState', 'replaceState'].forEach(name => {
    const native = history[name];
    history[name] = (...args) => {
      native.apply(history, args);
      moved();
    };
  });
  addEventListener('popstate', moved);
  addEventListener('pageshow', event => event.persisted && view());
  addEventListener('pagehide', flush);
  addEventListener('visibilitychange', () => flush(document.hidden));
  document.addEventListener('prerenderingchange', () => flush());

  const run = safe((name, ...args) => commands[name] ? commands[name](...args) : need(name));
  const use = q[name] = module => safe(module)(tag);
  modules.forEach(use);
  if (window.__tcfapi || window.__gpp) need('platform');
  use(() => /avtryck_/.test(location.search + Object.keys(localStorage)) && need('debug'));
  view();
  q.forEach(args => run(...args));
  // Nothing has gone before the commands that were queued.
  ready();
  const { push } = q;
  // Tags that come later get the latest commands too.
  q.push = args => {
    if (push.call(q, args) > 100) q.shift();
    run(...args);
  };
})(__CONFIG__, [__MODULES__]);
