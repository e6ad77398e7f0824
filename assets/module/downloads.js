// Sends an event when somebody follows a link to a file.
use(tag => {
  const follow = event => {
    const link = event.button < 2 && event.target.closest && event.target.closest('a[href]');
    const [, name, extension] = link && /([^/]+\.(7z|avi|csv|dmg|docx?|epub|exe|gz|iso|key|midi?|mov|mp[34g]|mpeg|msi|od[pst]|pdf|pkg|pptx?|pps|rar|rtf|tar|txt|wav|webm|wm[av]|xlsx?|zip))$/i.exec(link.pathname) || [];
    if (name || link && link.hasAttribute('download')) {
      avtryck('event', 'file_download', { link_url: link.origin + link.pathname, file_name: name, file_extension: extension && extension.toLowerCase() }, { site: tag.site });
    }
  };
  addEventListener('click', follow, true);
  addEventListener('auxclick', follow, true);
});
