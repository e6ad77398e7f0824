// Says with each hit who is logged in: avtryck('user', id), or avtryck('user', id, user_sig), and avtryck('user', null).
use(tag => {
  const { add, commands, waiting } = tag;
  let user; // '' once somebody has logged out
  let user_sig;
  const fill = hit => hit.user === undefined && Object.assign(hit, { user, user_sig });
  tag.user = 1;
  tag.add = hit => {
    fill(hit);
    add(hit);
  };
  commands.user = (id, sig) => {
    user = id == null || Object(id) === id ? '' : id + '';
    user_sig = user && sig || undefined;
    waiting.forEach(fill);
  };
  // Where this file came later, the command was given before; the last one counts.
  avtryck.q.filter(([name]) => name === 'user').slice(-1).forEach(([, ...args]) => commands.user(...args));
});
