// Sends an event when somebody follows a link to a file.
use(tag => {
  const follow = tag.safe(event => {
    // A link in an open shadow tree is not the target here, and one in an SVG has no parts.
    const link = event.button < 2 && event.composedPath().find(({ localName, href }) => /^a(rea)?$/.test(localName) && href);
    const to = new URL(link.href.baseVal || link.href, document.baseURI);
    // Any other address may be the file itself (data:), or somebody's (mailto:).
    const link_url = /^http/.test(to) ? to.origin + to.pathname : undefined;
    const [, file_name, extension] = /([^/]+\.(7z|avi|csv|dmg|docx?|epub|exe|gz|iso|key|midi?|mov|mpe?[34g]|msi|od[pst]|pdf|pkg|pptx?|pps|rar|rtf|tar|txt|wav|webm|wm[av]|xlsx?|zip))$/i.exec(link_url) || [];
    if (file_name || link.hasAttribute('download')) {
      avtryck('event', 'file_download', { link_url, file_name, file_extension: extension && extension.toLowerCase() }, { site: tag.site });
    }
  });
  addEventListener('click', follow, true);
  addEventListener('auxclick', follow, true);
});
