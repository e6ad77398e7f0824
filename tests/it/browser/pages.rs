//! The pages that the proxy serves itself, some with a consent platform on them.

/// Consent platforms as pages find them: they keep who listens, and answer when the test says so. The
/// one of TCF says at once, as real ones do, that it is asking the visitor.
const PLATFORMS: &str = r#"
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

/// A page with the tag of a site, behind a script of its own.
fn page(site: &str, script: &str) -> String {
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
    match path {
        "/asks" => Some(page("asks", "")),
        "/tcf" => Some(page("asks", &platforms(true, false))),
        "/gpp" => Some(page("asks", &platforms(false, true))),
        "/mute" => Some(page("demo", &platforms(true, true))),
        _ => None,
    }
}
