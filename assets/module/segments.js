// Tells the page in which segments its visitor is: avtryck('segments', keys => …).
use(tag => {
  const { q } = avtryck;
  const ask = tell => {
    if (typeof tag.segments !== 'string') return tell([]);
    // What a consent platform says is not known yet.
    if (tag.wait) return setTimeout(ask, 50, tell);
    const { known } = tag;
    fetch(tag.base + tag.segments + '?' + new URLSearchParams(Object.assign({ site: tag.site }, tag.said)), { credentials: 'include' })
      .then(reply => reply.json())
      // Of a choice that holds no longer, nothing is told.
      .then(answer => tag.known === known ? answer.segments : new Promise(ask))
      .catch(() => [])
      .then(tell);
  };
  tag.commands.segments = () => {}; // answered here
  const { push } = q;
  const answer = ([name, tell]) => name === 'segments' && ask(tell);
  q.push = args => {
    const count = push.call(q, args);
    answer(args);
    return count;
  };
  q.forEach(answer);
});
