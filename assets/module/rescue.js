// Sends what tag.js cannot: hits whose JSON is odd or too big, and all hits by pixels where the path of events is blocked.
use(tag => {
  let cut; // something did not fit
  let first; // hits sent before its reply would get other visitor IDs

  // JSON, encoded for a URL, of what can be told and fits.
  const write = (value, room, above = []) => {
    const whole = text => {
      if (text.length < room) return text;
      cut = 1;
      return '';
    };
    if (room < 0) return whole('');
    if (typeof value === 'bigint') value += '';
    if (typeof value === 'string') value = value.replace(/[\ud800-\udfff]/gu, '\ufffd');
    if (typeof value !== 'object' || !value) {
      const text = JSON.stringify(value);
      return text && whole(encodeURIComponent(text).replace(/'/g, '%27'));
    }
    if (above.includes(value) || above[60]) return;
    const within = [...above, value];
    const list = Array.isArray(value);
    if (!list && typeof value.toJSON === 'function') return write(value.toJSON(), room, within);
    const cutBefore = cut;
    let lost;
    let text = '';
    for (const key of Object.keys(value)) {
      let part;
      const name = list ? '' : write(key, 1 / 0) + ':';
      cut = 0;
      try {
        // Some room is left for what follows.
        part = write(value[key], room - text.length - name.length - 99, within);
      } catch (e) {}
      const isCut = cut;
      lost = lost || cut;
      // A list has whole items, unless not even the first one fits.
      if (list && (part === '' || isCut && text)) break;
      if (list || part) text += (text && ',') + name + (part || null);
    }
    cut = cutBefore || lost;
    if (lost && !text) return '';
    return list ? `[${text}]` : `{${text}}`;
  };

  // What must not be cut comes first.
  const fit = (hit, room) => {
    cut = hit.truncated;
    const text = write(hit, room);
    return cut ? write(Object.assign({ truncated: 1 }, hit), room) : text;
  };

  const pixel = hit => new Promise(done => {
    const image = new Image();
    image.onload = () => done(tag.recorded && tag.recorded([hit], ''));
    // A blocker is not asked again.
    image.onerror = () => done(tag.blocked = 2);
    image.src = tag.base + tag.pixel + '?json=' + fit(Object.assign({}, hit, { user: undefined, user_sig: undefined }), 7900); // 8 KiB is refused
  });

  const send = async hit => {
    if (!tag.blocked) {
      try {
        await tag.post(tag.event, decodeURIComponent(fit(hit, 48e3)), 'no-cors'); // 64 KiB is refused
        return tag.blocked = 0;
      } catch (e) {
        if (tag.blocked === 0 || tag.held()) return tag.add(hit);
        tag.blocked = 1;
      }
    }
    if (tag.blocked < 2) await pixel(hit);
  };

  tag.rescue = async hits => {
    for (const hit of hits) {
      if (first) await first;
      const sent = send(hit);
      first = first || sent;
    }
  };
});
