/** Gives the tag a command, also before it has started. */
export const avtryck = (...args) => {
  if (typeof window === 'undefined') return; // on a server
  if (typeof window.avtryck !== 'function') window.avtryck = (...all) => window.avtryck.q.push(all);
  window.avtryck.q = window.avtryck.q || [];
  window.avtryck(...args);
};

/** Starts the tag with these modules. */
export const start = (config, modules = []) => {
  if (typeof window === 'undefined') return; // on a server
  core(Object.assign({
    event: '/e',
    pixel: '/p.gif',
    tag: '/tag.js',
    consent: '/consent?site=' + config.site,
    choice: 'avchoice',
    ask: true,
    flags: ['store', 'measure', 'profile', 'match', 'link', 'locate'],
  }, config), modules);
};
