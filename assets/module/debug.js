// Prints hits, the consent and the replies where ?avtryck_debug or localStorage.avtryck_debug asks for it.
// ?avtryck_ignore or localStorage.avtryck_ignore: nothing is sent from this browser, until ?avtryck_ignore=0.
use(tag => {
  const { add, post, commands } = tag;
  const { consent } = commands;
  const { search } = location;
  const say = (...all) => console.info('avtryck', ...all);
  const asks = name => search.includes(name) || localStorage[name];
  const ignore = 'avtryck_ignore';
  tag.debug = 1;
  if (search.includes(ignore + '=0')) localStorage.removeItem(ignore);
  else if (asks(ignore)) {
    localStorage[ignore] = 1;
    tag.waiting.length = 0;
    tag.add = () => {};
    return say(ignore);
  }
  if (!asks('avtryck_debug')) return;
  const print = hit => say(hit, document.cookie.match(RegExp(tag.choice + '=[^;]*', 'g')), tag.said);
  tag.waiting.forEach(print);
  tag.add = hit => {
    print(hit);
    add(hit);
  };
  tag.post = (path, body, mode) => post(path, body).then(reply => {
    say(path, reply.status, reply.headers.get('avtryck-refusal'));
    return reply; // `recorded` reads it too
  }, () => {
    say(path, 'not to be read from this origin');
    return post(path, body, mode);
  });
  commands.consent = given => {
    consent(given);
    say(given, 'of', tag.flags, document.cookie);
  };
});
