//! The tags that are printed, filled in and fired as each network would.

use super::sites;
use crate::support::{Collector, Config, command, consent_string};

fn partners() -> Config {
    let mappings = ["adform", "google", "xandr", "openrtb"];
    let mapped = mappings.into_iter().fold(sites(), |config, name| {
        config.with(&format!(
            r#"
            [[partner]]
            key = "my-{name}"
            mapping = "{name}"
            site = "open"
            gvl_id = 2
            "#
        ))
    });
    mapped.with("[[partner]]\nkey = \"bare\"")
}

async fn tag(collector: &Collector, partner: &str, more: &[&str]) -> (Option<i32>, String, String) {
    let output = command(&["tag", "--at", "https://px.example", "--partner", partner])
        .args(more)
        .env("AVTRYCK_CONFIG", collector.dir.path().join("avtryck.toml"))
        .output()
        .await
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// What a network does to a tag: every macro of the reference gets a value, but for one that is
/// left.
fn filled(tag: &str, network: &str, left: &str, consent: &str) -> String {
    let mut values: Vec<(String, String)> = Vec::new();
    for (name, value) in [
        ("${GDPR}", "1"),
        ("${GDPR_CONSENT_2}", consent),
        ("[GDPRCONSENT]", consent),
        ("${GPP_STRING_2}", ""),
        ("[GPPSTRING]", ""),
        ("${GPP_SID}", ""),
        ("[GPPSECTIONID]", ""),
        ("[LIMITADTRACKING]", "0"),
        ("[ERRORCODE]", "402"),
        ("%%CLICK_URL_UNESC%%", "https://adclick.example/aclk?adurl="),
        ("${CLICK_URL}", "https://click.example/c?u="),
        ("%%c1;cpdir=%%", "https://track.example/C/?bn=1;cpdir="),
        ("%%ADUNIT%%", "M-ADUNIT"),
        ("%%CACHEBUSTER%%", "77"),
        ("%ecid!", "M-ecid"),
        ("${IS_PREVIEW}", "0"),
        // Encoded, as the name says.
        ("${REFERER_URL_ENC}", "https%3A%2F%2Fnews.example%2Fa"),
    ] {
        values.push((name.to_owned(), value.to_owned()));
    }
    for name in [
        "CAMID", "CREID", "PLAID", "MEDID", "ADVID", "DIM", "UID", "RND",
    ] {
        values.push((format!("__ADF{name}__"), format!("M-{name}")));
    }
    for name in [
        "CACHEBUSTER",
        "CAMPAIGN_ID",
        "AUCTION_ID",
        "CREATIVE_ID",
        "TAG_ID",
        "DEAL_ID",
        "PRICE_PAID",
        "USER_ID",
        "AUCTION_BID_ID",
        "AUCTION_IMP_ID",
        "AUCTION_SEAT_ID",
        "AUCTION_AD_ID",
        "AUCTION_PRICE",
        "AUCTION_CURRENCY",
        "AUCTION_LOSS",
    ] {
        values.push((format!("${{{name}}}"), format!("M-{name}")));
    }
    let mut text = tag.to_owned();
    for (name, value) in values {
        if name != left {
            text = text.replace(&name, &value);
        }
    }
    let rest = text.replace(left, "");
    for open in [
        "${", "%%", "__ADF", "[GPP", "[GDPR", "[ERROR", "[LIMIT", "!&",
    ] {
        assert!(!rest.contains(open), "{network}: {open} is left in {rest}");
    }
    text
}

/// Each URL of the collector that stands in a text, without its origin.
fn urls(text: &str) -> Vec<String> {
    text.split("https://px.example")
        .skip(1)
        .map(|rest| {
            let end = rest.find(['"', '\n', '<']).unwrap_or(rest.len());
            rest[..end].trim_end_matches("]]>").to_owned()
        })
        .collect()
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table of requests")]
async fn each_networks_tag_fires_rows_with_what_its_macros_say() {
    let collector = Collector::start(partners()).await;
    let consent = consent_string("made since TCF 2.3, disclosed");
    // The partner, its networks with a macro that is left as it is, and what rows have then. One
    // event a VAST event, one an error, three for notices.
    for (partner, left, row, events) in [
        (
            "my-adform",
            "__ADFPLAID__",
            "campaign = 'spring' and creative = 'M-CREID' and placement is null and publisher = 'M-MEDID' and partner_uid = 'M-UID'",
            11,
        ),
        (
            "my-google",
            "%ecid!",
            "campaign = 'spring' and creative is null",
            22,
        ),
        (
            "my-xandr",
            "${USER_ID}",
            "campaign = 'spring' and creative = 'M-CREATIVE_ID' and placement = 'M-TAG_ID' and partner_uid is null and page_url = 'https://news.example/a' and params->>'price' = 'M-PRICE_PAID'",
            11,
        ),
        (
            "my-openrtb",
            "${AUCTION_SEAT_ID}",
            "campaign = 'spring' and params->>'auction_id' = 'M-AUCTION_ID' and params->>'price' = 'M-AUCTION_PRICE' and not params ? 'seat_id'",
            14,
        ),
    ] {
        let more = [
            "--campaign",
            "spring",
            "--click",
            "https://landing.example/?a=b",
            "--click-id",
            "--size",
            "300x250",
        ];
        let (code, text, wrong) = tag(&collector, partner, &more).await;
        assert_eq!((code, wrong.as_str()), (Some(0), ""), "{partner}");
        let text = filled(&text, partner, left, &consent);
        let mut fired = 0;
        for url in urls(&text) {
            let reply = collector.get(&url, &[]).await;
            if url.starts_with("/c?") {
                assert_eq!(reply.status, 302, "{url}");
                assert!(
                    reply
                        .header("location")
                        .starts_with("https://landing.example/?a=b&avclid="),
                    "{reply:?}"
                );
            } else {
                assert_eq!((reply.status, reply.bytes.len()), (200, 43), "{url}");
            }
            fired += 1;
        }
        let rows = format!(
            "select count(*) from avtryck.hit_detail where partner = '{partner}' and site = 'open' and consent_source = 'tcf'"
        );
        collector.wait_for(&rows, fired).await;
        let of_kind = |kind: &str| format!("{rows} and kind = '{kind}' and {row}");
        let networks = if partner == "my-google" { 2 } else { 1 };
        // Only one of Google's two networks knows the macro that was left.
        if networks == 1 {
            assert_eq!(
                collector.number(&of_kind("impression")).await,
                2,
                "{partner}\n{text}"
            );
            assert_eq!(collector.number(&of_kind("click")).await, 2, "{partner}");
            assert_eq!(
                collector.number(&of_kind("event")).await,
                events,
                "{partner}"
            );
        }
        assert_eq!(
            collector
                .number(&format!("{rows} and kind = 'event'"))
                .await,
            events,
            "{partner}"
        );
        let sized = format!("{rows} and params->>'size' = '300x250'");
        assert_eq!(collector.number(&sized).await, fired, "{partner}");
        let flagged = format!("{rows} and 'macro' = any(flags)");
        let with_macro = if networks == 1 { fired } else { fired / 2 };
        assert_eq!(collector.number(&flagged).await, with_macro, "{partner}");
        let failed = format!("{rows} and event_name = 'error' and params->>'err' = '402'");
        assert_eq!(collector.number(&failed).await, networks, "{partner}");
    }
    let lost = "select count(*) from avtryck.hit_detail where event_name = 'loss' and params->>'loss' = 'M-AUCTION_LOSS'";
    assert_eq!(collector.number(lost).await, 1);
}

#[tokio::test]
async fn a_partner_that_is_not_known_is_named_with_those_that_are() {
    let collector = Collector::start(partners()).await;
    let (code, text, wrong) = tag(&collector, "nobody", &[]).await;
    assert_eq!((code, text.as_str()), (Some(64), ""));
    assert!(
        wrong.contains("--partner nobody")
            && wrong.contains("my-adform, my-google, my-xandr, my-openrtb, bare"),
        "{wrong}"
    );
    let (code, text, wrong) = tag(&collector, "my-google", &["--site", "opne"]).await;
    assert_eq!((code, text.as_str()), (Some(64), ""));
    assert!(
        wrong.contains("--site opne: is not in the configuration")
            && wrong.contains("did you mean open?"),
        "{wrong}"
    );
    let (code, _, wrong) = tag(&collector, "bare", &[]).await;
    assert_eq!(code, Some(64));
    assert!(
        wrong.contains("one of adform, google, xandr, openrtb"),
        "{wrong}"
    );
    for (more, complaint) in [
        (["--size", "big"], "--size big"),
        (["--click", "javascript:0"], "no click may go there"),
    ] {
        let (code, _, wrong) = tag(&collector, "my-adform", &more).await;
        assert_eq!(code, Some(64));
        assert!(wrong.contains(complaint), "{wrong}");
    }
    // Without a target there is no click URL, but a pixel that counts clicks.
    let (_, text, _) = tag(&collector, "my-adform", &[]).await;
    assert!(
        !text.contains("/c?") && text.contains("<ClickTracking>"),
        "{text}"
    );
}
