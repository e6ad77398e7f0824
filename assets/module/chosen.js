// Ends what former choices left under other domains, on the page's host and on the collector's, and warns of what is no choice.
use(tag => {
  const { commands } = tag;
  const { consent } = commands;
  const host = '.' + location.hostname;
  const isLate = tag.chosen;
  const settle = async (given, keep) => {
    tag.busy++; // what waits is sent with this choice alone
    try {
      if (keep) keep(given);
      if (Object(given) !== given || Object.keys(given).filter(key => given[key])[tag.known.length]) console.warn('avtryck: unknown consent', given);
      const [, kept = ''] = host.match('[.](' + tag.domain + ')$') || [];
      host.split('.').forEach((label, at, all) => ['', ';secure', ';secure;partitioned'].forEach(more => {
        const domain = all.slice(at + 1).join('.');
        // For an address, and for a name alone, Domain is the host itself.
        if (more[9] || domain !== kept && /^$|[.].*[a-z]/.test(domain)) document.cookie = tag.choice + '=;path=/;max-age=0;domain=' + domain + more;
      }));
      // One without `store` has been told.
      if (kept && tag.known.includes('store')) await tag.tell();
    } catch (e) {}
    tag.busy--;
    tag.flush();
  };
  tag.chosen = 1;
  commands.consent = given => settle(given, consent);
  // Where this file came later, the command was given before.
  if (isLate) settle(avtryck.q.filter(([name]) => name === 'consent').pop()[1]);
});
