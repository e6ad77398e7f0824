// Sends an event when somebody begins to fill in a form, and one when it is submitted. Never what is in it.
use(tag => {
  const begun = new WeakSet();
  const tell = (name, form) => {
    // A field may have the name of an attribute, and then takes its place as a property.
    const say = attribute => form.getAttribute(attribute) || undefined;
    let to;
    try {
      to = new URL(say('action') || '', location.href);
    } catch (e) {}
    avtryck('event', name, { form_id: say('id'), form_name: say('name'), form_destination: to && to.origin + to.pathname }, { site: tag.site });
  };
  addEventListener('change', ({ target: { form } }) => {
    if (!form || begun.has(form)) return;
    begun.add(form);
    tell('form_start', form);
  }, true);
  addEventListener('submit', event => tell('form_submit', event.target), true);
});
