// Sends an event when somebody begins to fill in a form, and one when it is submitted. Never what is in it.
use(tag => {
  const begun = new WeakSet();
  const tell = tag.safe((name, form) => {
    // A field may have the name of a property or a method, and then takes its place.
    const say = attribute => Element.prototype.getAttribute.call(form, attribute) || undefined;
    let to = location;
    try {
      to = new URL(say('action') || to, document.baseURI);
    } catch (e) {
      to = 0;
    }
    avtryck('event', name, { form_id: say('id'), form_name: say('name'), form_destination: /^http/.test(to) ? to.origin + to.pathname : undefined }, { site: tag.site });
  });
  const change = ({ target: { form } }) => {
    if (!form || begun.has(form)) return;
    begun.add(form);
    tell('form_start', form);
  };
  const submit = event => tell('form_submit', event.target);
  const listen = root => {
    root.addEventListener('change', change, true);
    root.addEventListener('submit', submit, true);
  };
  listen(window);
  // These events do not leave a shadow tree; the focus does.
  addEventListener('focusin', tag.safe(event => {
    const root = event.composedPath()[0].getRootNode();
    if (root instanceof ShadowRoot) listen(root);
  }), true);
});
