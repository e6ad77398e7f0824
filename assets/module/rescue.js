// Sends what tag.js cannot: hits whose JSON is odd or too big, and all hits by pixels where the path of events is blocked.
use(tag => {
  let first; // hits sent before its reply would get other visitor IDs

  const pixel = hit => new Promise(done => {
    const image = new Image();
    image.onload = () => done(tag.recorded && tag.recorded([hit], ''));
    // A blocker is not asked again.
    image.onerror = () => done(tag.blocked = 2);
    image.src = tag.base + tag.pixel + '?json=' + tag.fit(Object.assign({}, hit, { user: undefined, user_sig: undefined }), 7900); // 8 KiB is refused
  });

  const send = async hit => {
    if (!tag.blocked) {
      try {
        await tag.post(tag.event, decodeURIComponent(tag.fit(hit, 48e3)), 'no-cors'); // 64 KiB is refused
        return tag.blocked = 0;
      } catch (e) {
        if (tag.blocked === 0 || tag.held()) return tag.add(hit);
        tag.blocked = 1;
      }
    }
    if (tag.blocked < 2) await pixel(hit);
  };

  tag.rescue = async hits => {
    if (!tag.fit.length) return hits.forEach(tag.add); // it is still to come
    for (const hit of hits) {
      if (first) await first;
      const sent = send(hit);
      first = first || sent;
    }
  };
  tag.need('fit');
});
