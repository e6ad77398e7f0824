// Shows each hit to a function of the page's, which may change it or, by returning false, drop it: avtryck('filter', hit => …).
use(tag => {
  const { add, commands, waiting } = tag;
  const seen = new WeakSet(); // those that come back because the line was bad
  let filter;
  tag.filter = 1;
  tag.add = hit => {
    try {
      if (filter && !seen.has(hit)) {
        seen.add(hit);
        if (filter(hit) === false) return;
      }
      add(hit);
    } catch (e) {
      console.error(e); // what should perhaps not be sent is not
    }
  };
  commands.filter = f => {
    filter = f;
    waiting.splice(0).forEach(tag.add);
  };
  // Where this file came later, the command was given before; the last one counts.
  avtryck.q.filter(([name]) => name === 'filter').slice(-1).forEach(([, ...args]) => commands.filter(...args));
});
