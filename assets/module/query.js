// Counts a change of the query as a page view.
use(tag => {
  const { route } = tag;
  tag.route = () => route() + location.search;
});
