// See docs/tag.md. Never throws into the page.
(function (tag, modules) {
  const { src, nonce, dataset } = document.currentScript || document.querySelector('[data-collector]') || {};
  const { site, choice, collector } = Object.assign(tag, dataset);
  // An element of that ID is no function.
  const api = window.avtryck = (window.avtryck || 0).call ? window.avtryck : (...args) => q.push(args);
  const q = api.q = api.q || [];
  if (q['@' + site]) return; // included twice

  const find = (text, pattern) => (text.match(pattern) || [])[1] || '';
  // A module finds its URL in the stack: a classic script must not hold the words import.meta.
  const base = find(collector || find(src || Error().stack, '([^\\s(@]+)' + tag.tag), '(.*[^/])');
  if (!base) return console.warn('avtryck: no data-collector');

  const waiting = tag.waiting = [];
  const hints = {};
  const clicked = find(location.search, '[?&]avclid=([^&]+)'); // the click that led here
  let from = document.referrer;
  let phase = 0; // 1: the first hit is under way, 2: it has its reply
  let route;
  let here;

  const moved = tag.moved = () => {
    if (tag.route() !== route) view(from = here);
  };

  const ready = () => {
    tag.busy--;
    flush();
  };

  const safe = tag.safe = f => (...args) => {
    try {
      return f(...args);
    } catch (e) {}
  };

  const missing = () => {};

  // Fetches a module that this file does not have.
  const need = tag.need = safe(name => {
    if (tag[name]) return;
    tag[name] = missing; // until it comes, if it does
    document.head.append(Object.assign(document.createElement('script'), {
      nonce,
      onload: ready,
      onerror: ready,
      // Throws where a page requires Trusted Types.
      src: base + tag.tag + '?site=' + site + '&only=' + name,
    }));
    tag.busy++;
  });

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

  const view = () => {
    route = tag.route();
    here = tag.url();
    record('');
  };

  const commands = tag.commands = {
    event: (name, ...more) => name && record(name, ...more),
    page: (...more) => record('', ...more),
    consent(given) {
      const known = tag.known = tag.flags.filter(flag => given && (given.pop ? given.includes(flag) : given[flag] == 1));
      // Only the collector can end the cookie with the ID.
      tag.tell = () => tag.post(tag.consent, new Blob([JSON.stringify(known)], { type: 'application/json' }));
      if ((chosen() || !tag.ask) && !/store/.test(known)) tag.tell();
      document.cookie = choice + '=' + (known.join('.') || 'none') +
        ';path=/;max-age=33696000;samesite=lax' +
        ';domain=' + find('.' + location.hostname, '[.](' + tag.domain + ')$') +
        (location.protocol > 'http:' ? ';secure' : '');
      need('chosen');
      flush();
    },
  };

  const flush = tag.flush = safe(leaving => {
    const answer = chosen();
    // A choice that permits nothing is equal to no text. A former one that is about to end drops nothing.
    // A refusal that the page gives drops what waits, whatever else is waited for.
    if (tag.ask && answer == '' && (tag.known == '' || !tag.busy)) waiting.splice(0);
    // Without its filter nothing goes.
    if (waiting.length && tag.filter !== missing && !document.prerendering && !tag.wait && (answer > '' || !tag.ask) && (leaving || !tag.busy) && !tag.held(leaving)) {
      if (leaving || phase > 1) send(waiting.splice(0));
      else if (!phase) q.turn = first(q.turn);
    }
  });

  const within = (time, work) => new Promise(done => setTimeout(done, time, work().then(done, done)));

  const record = safe((name, fields, options) => {
    const hit = Object.assign({
      // The collector keeps IDs of one time together.
      id: Date.now() + '-' + Math.random(),
      u: tag.url(),
      ref: from,
      site,
    }, options, { at: undefined, e: (name + '').slice(0, 200), params: fields });
    if (options && options.at) console.warn('avtryck: at is dropped');
    // The page may change it.
    if (hit.site === site) tag.add(JSON.parse(write(hit) || 0) || hit);
    flush();
  });

  // A click is remembered for later pages.
  const click = safe(() => tag.stores() ? sessionStorage.avclid = clicked || sessionStorage.avclid || '' : clicked);

  // The flags that every choice has: there are several where a cookie has had another domain. Nothing
  // without a choice, and in a sandbox, where reading cookies throws.
  const chosen = safe(() => {
    const [, ...all] = ('; ' + document.cookie).split('; ' + choice + '=');
    return all[0] && tag.flags.filter(flag => all.every(text => text.split(';')[0].includes(flag)));
  });

  // Hits sent before its reply would get other visitor IDs, whichever site's they are.
  const first = async turn => {
    phase = 1;
    await within(200, async () => {
      if (tag.blind) return;
      hints.webdriver = navigator.webdriver || undefined;
      // Only some browsers have these.
      Object.assign(hints, await navigator.userAgentData.getHighEntropyValues(['model', 'platformVersion', 'formFactors']));
    });
    await turn;
    await within(3000, () => send(waiting.splice(0, 1)));
    phase = 2;
    flush();
  };

  // JSON.stringify throws at some values, and old libraries change what it writes.
  const write = safe(value => {
    const text = JSON.stringify(value);
    return ![].toJSON && text.length < 2e4 && !/\\ud/.test(text) && text;
  });

  // What modules use and may replace, besides the configuration.
  Object.assign(tag, {
    base,
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
    post: (path, body, mode) => fetch(base + path, { method: 'POST', credentials: 'include', keepalive: 1, body, mode }),
  });

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

  const run = safe(([name, ...args]) => commands[name] ? commands[name](...args) : need(name));
  modules.forEach(q['@' + site] = module => safe(module)(tag));
  if (window.__tcfapi || window.__gpp) need('platform');
  safe(() => /avtryck_/.test(location.search + Object.keys(localStorage)) && need('debug'))();
  view();
  q.forEach(run);
  // Nothing has gone before the commands that were queued.
  ready();
  const push = q.push;
  // Tags that come later get the latest commands too.
  q.push = args => {
    if (push.call(q, args) > 100) q.shift();
    run(args);
  };
})(__CONFIG__, [__MODULES__]);
