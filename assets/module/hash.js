// Takes fragments that are routes, such as #/cart and #!/cart, as parts of the page's address.
use(tag => {
  const { route, url } = tag;
  // Other fragments may hold secrets.
  const hash = () => /^#!?\//.test(location.hash) ? location.hash : '';
  tag.route = () => route() + hash();
  tag.url = () => url() + hash();
  addEventListener('hashchange', tag.moved);
});
