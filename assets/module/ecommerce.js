// Sends the events of a shop that a page pushes to its dataLayer, in the form that Google Analytics 4 has for them.
use(tag => {
  const known = /^(add_payment_info|add_shipping_info|add_to_cart|add_to_wishlist|begin_checkout|generate_lead|purchase|refund|remove_from_cart|select_item|select_promotion|view_cart|view_item|view_item_list|view_promotion)$/;
  const take = said => {
    try {
      // gtag() pushes its arguments.
      const [name, fields] = said.event ? [said.event, said.ecommerce] : said[0] === 'event' ? [said[1], said[2]] : [];
      if (!known.test(name)) return;
      const id = fields && fields.transaction_id;
      avtryck('event', name, Object.assign({}, fields, { user_data: undefined }), Object.assign({ site: tag.site }, id && { id: name + '-' + id }));
    } catch (e) {} // somebody else's push
  };
  const layer = window.dataLayer = window.dataLayer || [];
  const { push } = layer;
  layer.push = function (...all) {
    all.forEach(take);
    return push.apply(layer, all);
  };
  layer.slice().forEach(take);
});
