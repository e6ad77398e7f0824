// Listens to the page's consent platforms and passes on what they say.
use(tag => {
  const listen = (api, read, ...version) => {
    if (typeof window[api] !== 'function') {
      if (tag.wait === api) setTimeout(listen, 300, api, read, ...version); // it may come however late
      return;
    }
    let silent = 1;
    const go = () => {
      tag.busy -= silent;
      silent = 0;
      tag.flush();
    };
    tag.busy++;
    setTimeout(go, 3000);
    window[api]('addEventListener', ...version, data => {
      try {
        const got = read(data);
        if (!got) return;
        Object.assign(tag.said, got);
        tag.ask = 0; // asked and answered
        if (tag.wait === api) tag.wait = 0;
        go();
      } catch (e) {}
    });
  };
  tag.platform = 1;
  // While the visitor is being asked, nothing is an answer.
  listen('__tcfapi', data => {
    if (data.eventStatus === 'cmpuishown') return;
    tag.blind = data.gdprApplies && !data.purpose.consents[1];
    return { gdpr: data.gdprApplies === false ? 0 : 1, gdpr_consent: data.tcString || '' };
  }, 2);
  listen('__gpp', ({ pingData }) => pingData.signalStatus === 'ready' &&
    { gpp: pingData.gppString, gpp_sid: pingData.applicableSections });
});
