// Gives each hit the properties that the page says once: avtryck('set', { … }).
use(tag => {
  const { add, commands, waiting } = tag;
  const set = tag.set = {};
  const fill = hit => {
    const own = hit.params == null ? {} : hit.params;
    // Fields of the hit itself win. A getter among them is copied, because it may throw.
    if (typeof own === 'object' && !Array.isArray(own)) hit.params = Object.defineProperties(Object.assign({}, set), Object.getOwnPropertyDescriptors(own));
  };
  tag.add = hit => {
    fill(hit);
    add(hit);
  };
  commands.set = fields => {
    Object.assign(set, fields);
    waiting.forEach(fill);
  };
  // Where this file came later, the command was given before.
  avtryck.q.forEach(([name, ...args]) => name === 'set' && commands.set(...args));
});
