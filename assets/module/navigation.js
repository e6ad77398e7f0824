// Sees navigations that a page makes by the Navigation API.
use(tag => {
  if (window.navigation) navigation.addEventListener('currententrychange', tag.moved);
});
