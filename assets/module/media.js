// Sends an event when a video or a sound begins, has played a quarter, a half and three quarters of its length, and ends.
use(tag => {
  const passed = new WeakMap(); // the last quarter that was told
  const tell = (name, media, more) => avtryck('event', 'media_' + name, Object.assign({
    media_url: (/^https?:[^?#]*/.exec(media.currentSrc) || [])[0],
    media_title: media.title || undefined,
    duration: isFinite(media.duration) ? media.duration : undefined,
  }, more), { site: tag.site });
  const listen = (type, take) => addEventListener(type, ({ target }) => target.currentSrc && take(target), true);
  listen('playing', media => {
    if (passed.has(media)) return;
    passed.set(media, 0);
    tell('start', media);
  });
  listen('timeupdate', media => {
    const quarter = Math.min(3, Math.floor(4 * media.currentTime / media.duration));
    if (!(quarter > passed.get(media))) return;
    passed.set(media, quarter);
    tell('progress', media, { percent: 25 * quarter });
  });
  // The next piece of a list begins anew.
  listen('emptied', media => passed.delete(media));
  listen('ended', media => {
    passed.delete(media);
    tell('complete', media);
  });
});
