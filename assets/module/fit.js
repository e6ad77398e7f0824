// Writes what JSON.stringify cannot: hits with odd values, and as much of a big one as fits.
use(tag => {
  let cut; // how often something did not fit

  // JSON, encoded for a URL, of what can be told and fits.
  const write = (value, room, above = []) => {
    let text = '';
    if (value && typeof value === 'object') {
      if (above.includes(value) || above[60]) return;
      above = [...above, value];
      const list = Array.isArray(value);
      if (!list && value.toJSON && value.toJSON.call) return write(value.toJSON(), room, above);
      for (const key of Object.keys(value)) {
        const cutBefore = cut;
        const name = list ? '' : write(key, 1e9) + ':';
        // Some room is left for what follows.
        const part = tag.safe(() => write(value[key], room - text.length - name.length - 99, above))();
        // A list has whole items, unless not even the first one fits.
        if (list && text && cut > cutBefore) break;
        if (list || part) text += (text && ',') + name + (part || null);
      }
      text = list ? `[${text}]` : `{${text}}`;
    } else text = encodeURIComponent(JSON.stringify(/^bi|g$/.test(typeof value) ? (value + '').replace(/[\ud800-\udfff]/gu, '\ufffd') : value) || '').replace(/'/g, '%27');
    if (text.length <= room) return text;
    cut++;
  };

  // What must not be cut comes first.
  tag.fit = (hit, room) => {
    cut = 0;
    const text = write(hit, room);
    return cut ? write(Object.assign({ truncated: 1 }, hit), room) : text;
  };
});
