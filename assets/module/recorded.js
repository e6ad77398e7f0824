// Tells the page what became of its hits: avtryck('recorded', (hit, reason) => …). Without a reason, the hit is on the collector's disk.
use(tag => {
  const { commands, post } = tag;
  let tell;
  tag.recorded = (hits, reason) => tell && hits.forEach(hit => {
    try {
      tell(hit, reason);
    } catch (e) {
      console.error(e);
    }
  });
  // The page may read the reply if its origin is one of the site's.
  tag.post = (path, body, mode) => path !== tag.event || !tell ? post(path, body, mode) : post(path, body).then(reply => {
    tag.recorded([].concat(JSON.parse(body)), reply.ok ? '' : reply.headers.get('avtryck-refusal') || 'status ' + reply.status);
    return reply; // `debug` reads it too
  }, () => post(path, body, mode));
  commands.recorded = f => tell = f;
  // Where this file came later, the command was given before; the last one counts.
  avtryck.q.filter(([name]) => name === 'recorded').slice(-1).forEach(([, ...args]) => commands.recorded(...args));
});
