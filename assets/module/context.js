// Says of each page view its title and, if the visitor permits to store, the screen, the window, the language and the time zone.
use(tag => {
  const { add } = tag;
  tag.add = hit => {
    try {
      if (!hit.e && !Array.isArray(hit.params)) {
        hit.params = Object.assign({ title: document.title.slice(0, 200) }, tag.stores() && {
          screen: screen.width + 'x' + screen.height,
          viewport: innerWidth + 'x' + innerHeight,
          language: navigator.language,
          time_zone: Intl.DateTimeFormat().resolvedOptions().timeZone,
        }, hit.params);
      }
    } catch (e) {} // a getter of the page's
    add(hit);
  };
});
