// See docs/tag.md. Never throws into the page.
(function (cfg) {
  const former = window.avtryck || {};
  if (former.site) return; // included twice
  const base = new URL((document.currentScript || {}).src || location).origin;
  const waiting = [];
  const hints = {};
  const said = {}; // by consent platforms, passed on as it is
  const unheard = new Set(); // platforms that have not answered
  let blind; // nothing may be read from the device
  let phase = 0; // 1: learning, 2: ready, 3: first sent, 4: replied
  let blocked;
  let here = url();
  let from = document.referrer;
  let clicked = (location.search.split(/[?&]avclid=/)[1] || '').split('&')[0]; // the click that led here

  const safe = f => (...args) => {
    try {
      return f(...args);
    } catch (e) {}
  };

  // Fragments may hold secrets.
  function url() {
    return location.href.split('#')[0];
  }

  // Throws in a sandbox.
  function choice() {
    return (('; ' + document.cookie).split('; ' + cfg.choice + '=')[1] || '').split(';')[0];
  }

  function silent() {
    return cfg.ask && /^(none)?$/.test(choice());
  }

  const flush = safe(leaving => {
    if (!waiting.length || document.prerendering || silent()) return;
    remember();
    if (leaving || phase > 3) send(waiting.splice(0).map(full));
    else if (unheard.size) return;
    else if (!phase) learn();
    else if (phase === 2) first(full(waiting.shift()));
  });

  // A click is remembered for later pages only where that is allowed.
  const remember = safe(() => {
    if (!blind && /store|true/.test(choice() || blind < 1 || cfg.keep && !navigator.globalPrivacyControl))
      clicked = sessionStorage.avclid = clicked || sessionStorage.avclid || '';
  });

  // Strings come first: the end of a pixel may be cut.
  const full = hit => Object.assign({ avclid: clicked }, said, hit);

  const listen = safe((api, read, ...version) => {
    if (!window[api]) return;
    unheard.add(api);
    window[api]('addEventListener', ...version, safe(data => {
      const got = read(data);
      if (!got) return;
      Object.assign(said, got);
      unheard.delete(api);
      cfg.ask = 0; // asked and answered
      flush();
    }));
  });

  const reach = next => () => {
    if (phase < next) phase = next;
    flush();
  };

  function learn() {
    phase = 1;
    const go = reach(2);
    setTimeout(go, 200);
    if (blind || !navigator.userAgentData) return go();
    navigator.userAgentData.getHighEntropyValues(['model', 'platformVersion', 'formFactors']).then(got => {
      hints.brands = got.brands.map(one => `"${one.brand}";v="${one.version}"`).join();
      hints.form_factors = JSON.stringify(got.formFactors || []).slice(1, -1);
      hints.mobile = got.mobile;
      hints.model = got.model;
      hints.platform = got.platform;
      hints.platform_version = got.platformVersion;
    }).then(go, go);
  }

  // Hits sent before its reply would get other visitor IDs.
  function first(hit) {
    const open = reach(4);
    // What blocks fetch blocks beacons silently.
    const retry = () => {
      blocked = true;
      pixel(hit, open);
    };
    phase = 3;
    setTimeout(open, 3000);
    fetch(base + cfg.event, { method: 'POST', mode: 'no-cors', credentials: 'include', keepalive: true, body: JSON.stringify(hit) })
      .then(open, retry);
  }

  function send(hits) {
    if (blocked || !navigator.sendBeacon || !navigator.sendBeacon(base + cfg.event, JSON.stringify(hits)))
      hits.forEach(hit => pixel(hit));
  }

  const pixel = safe((hit, done) => {
    const query = [];
    const add = (prefix, fields) => {
      for (const key in fields) {
        const value = fields[key];
        if (key === 'ch') add('ch_', value);
        else query.push([prefix + key, value instanceof Object ? JSON.stringify(value) : value]
          .map(encodeURIComponent).join('='));
      }
    };
    add('', hit);
    const image = new Image();
    image.onload = image.onerror = done;
    // 8 KiB is refused.
    image.src = base + cfg.pixel + '?' + query.join('&').slice(0, 8000);
  });

  const record = safe((fields, name) => {
    if (cfg.ask && choice() === 'none') return;
    const hit = Object.assign({
      site: cfg.site,
      // The collector keeps IDs of one time together; http has no randomUUID.
      id: Date.now() + '-' + crypto.getRandomValues(new Uint32Array(2)),
      ch: hints,
    }, JSON.parse(JSON.stringify(fields || {}))); // the page may change it
    if (name) hit.e = name;
    hit.u = hit.u || here;
    hit.ref = hit.ref || from;
    if (waiting.length < 100) waiting.push(hit);
    flush();
  });

  function moved() {
    if (url() === here) return;
    from = here;
    here = url();
    record();
  }

  const commands = {
    event: (name, fields) => name && record(fields, name),
    page: fields => record(fields),
    consent(list) {
      const domain = ('.' + location.hostname).endsWith('.' + cfg.domain);
      document.cookie = cfg.choice + '=' + (list.join('.') || 'none') +
        ';path=/;max-age=33696000;samesite=lax' +
        (domain ? ';domain=' + cfg.domain : '') +
        (location.protocol === 'https:' ? ';secure' : '');
      if (silent()) waiting.length = 0; // refused
      flush();
    },
  };

  window.avtryck = safe((name, ...args) => commands[name](...args));
  avtryck.site = cfg.site;
  ['pushState', 'replaceState'].forEach(name => {
    const native = history[name];
    history[name] = function (...args) {
      native.apply(this, args);
      moved();
    };
  });
  addEventListener('popstate', moved);
  addEventListener('pagehide', () => flush(true));
  document.addEventListener('visibilitychange', () => flush(document.hidden));
  document.addEventListener('prerenderingchange', () => flush());
  // While the visitor is being asked, nothing is an answer.
  listen('__tcfapi', data => {
    if (data.eventStatus === 'cmpuishown') return;
    blind = data.gdprApplies && !data.purpose.consents[1];
    return { gdpr: data.gdprApplies === false ? 0 : 1, gdpr_consent: data.tcString || '' };
  }, 2);
  listen('__gpp', ({ pingData }) => pingData.signalStatus === 'ready' &&
    { gpp: pingData.gppString, gpp_sid: pingData.applicableSections });
  setTimeout(() => {
    unheard.clear();
    flush();
  }, 3000);
  record();
  (former.q || []).forEach(args => avtryck(...args));
})(__CONFIG__);
