//! The pages that the proxy serves itself, some with a consent platform on them.

/// Consent platforms as pages find them: they keep who listens, and answer when the test says so.
/// The one of TCF says at once, as real ones do, that it is asking the visitor.
pub(super) const PLATFORMS: &str = r#"
    const heard = { tcf: [], gpp: [] };
    const tcf = (eventStatus, tcString, store) =>
        ({ eventStatus, tcString, gdprApplies: true, purpose: { consents: { 1: store } } });
    const gpp = (signalStatus, gppString) =>
        ({ eventName: 'signalStatus', pingData: { signalStatus, gppString, applicableSections: [2] } });
    const __TCF__ = (command, version, listener) => {
        if (command !== 'addEventListener' || version !== 2) throw command;
        heard.tcf.push(listener);
        listener(tcf('cmpuishown', ''), true);
    };
    const __GPP__ = (command, listener) => {
        if (command !== 'addEventListener') throw command;
        heard.gpp.push(listener);
        listener(gpp('not ready', ''), true);
    };
    const answer = (who, what) => heard[who].forEach(listener => listener(what, true));
"#;

/// Lets the timers of a page run only when a test says so ([`super::Browser::pass_time`]), and
/// counts what the page sends. Client hints come at once, so a tag that has not sent anything after
/// its timers have run waits for something else.
pub(super) const CLOCK: &str = r"
    window.timers = [];
    window.setTimeout = (run, time, ...more) => timers.push(() => run(...more));
    window.asked = 0;
    const sendNow = window.fetch;
    window.fetch = (...all) => { asked++; return sendNow(...all); };
    navigator.userAgentData.getHighEntropyValues = async () => ({});
";

/// A publisher's page, on the host 127.0.0.1, with a placement whose ads come from `localhost`,
/// which is another site.
const PUBLISHER: &str = "<!doctype html><title>news</title><link rel=icon href=data:,><h1>News</h1><script>\
    document.write(`<iframe src=\"http://localhost:${location.port}/creative\" width=300 height=250></iframe>`)</script>";

/// The ad: a pixel, and a link that leaves the frame.
const CREATIVE: &str = "<!doctype html><title>ad</title><link rel=icon href=data:,><script>\
    const ad = 'site=demo&partner=demo-network&campaign=spring&creative=banner&imp_id=i-1';\
    const to = encodeURIComponent(`http://127.0.0.1:${location.port}/landing`);\
    document.write(`<a id=ad target=_top href=\"/c?${ad}&clid=1&to=${to}\">Phones</a><img src=\"/i.gif?${ad}\">`)</script>";

/// A page with the tag of a site, behind a script of its own.
pub(super) fn page(site: &str, script: &str) -> String {
    format!(
        "<!doctype html><title>{site}</title><link rel=icon href=data:,><script>{script}\
         window.avtryck = window.avtryck || function () {{ (avtryck.q = avtryck.q || []).push(arguments); }};\
         </script><script src=\"/tag.js?site={site}\"></script>"
    )
}

/// The pages that the proxy serves itself.
pub(super) fn page_of(path: &str) -> Option<String> {
    let platforms = |tcf: bool, gpp: bool| {
        PLATFORMS
            .replace(
                "const __TCF__",
                if tcf {
                    "window.__tcfapi"
                } else {
                    "const unused1"
                },
            )
            .replace(
                "const __GPP__",
                if gpp { "window.__gpp" } else { "const unused2" },
            )
    };
    match path.split('?').next().unwrap_or_default() {
        "/publisher" => Some(PUBLISHER.to_owned()),
        "/creative" => Some(CREATIVE.to_owned()),
        "/landing" => Some(page("demo", "") + "<p id=landed>here"),
        "/asks" => Some(page("asks", CLOCK)),
        "/tcf" => Some(page("asks", &(CLOCK.to_owned() + &platforms(true, false)))),
        "/gpp" => Some(page("asks", &(CLOCK.to_owned() + &platforms(false, true)))),
        "/mute" => Some(page("demo", &platforms(true, true))),
        _ => None,
    }
}
