//! The tags that are printed, filled in and fired as each network would.

use super::sites;
use crate::support::{Collector, Config, command, consent_string, raw};

fn partners() -> Config {
    let mappings = [
        "adform", "google", "xandr", "openrtb", "cm360", "ttd", "meta", "revive",
    ];
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
async fn each_network_gets_what_it_takes_with_its_own_macros() {
    let collector = Collector::start(partners()).await;
    let target = ["--click", "https://landing.example/"];
    for (partner, has, has_not) in [
        (
            "my-cm360",
            &[
                "campaign=%ebuy!",
                "placement=%epid!",
                "%chttps://px.example/c?",
                "${GDPR_CONSENT_2}",
                "<Impression>",
            ][..],
            "%%",
        ),
        (
            "my-ttd",
            &[
                "creative=%%TTD_CREATIVEID%%",
                "%%TTD_CLK%%https://px.example/c?",
                "${GDPR_CONSENT_2}",
                "<Impression>",
            ],
            "%ebuy",
        ),
        (
            "my-meta",
            &[
                "# Meta: click",
                "campaign={{campaign.id}}",
                "creative={{ad.id}}",
            ],
            "<img",
        ),
        (
            "my-revive",
            &["<img", "creative={bannerid}", "cb={random}"],
            "GDPR",
        ),
    ] {
        let (code, text, wrong) = tag(&collector, partner, &target).await;
        assert_eq!((code, wrong.as_str()), (Some(0), ""), "{partner}");
        for part in has {
            assert!(text.contains(part), "{partner}: no {part} in {text}");
        }
        assert!(!text.contains(has_not), "{partner}: {has_not} in {text}");
        // A click with macros that nobody filled in still leads on.
        let click = urls(&text).into_iter().find(|url| url.starts_with("/c?"));
        let reply = collector.get(&click.expect("a click"), &[]).await;
        assert_eq!(reply.header("location"), "https://landing.example/");
    }
}

#[tokio::test]
async fn a_file_of_placements_comes_back_with_the_tags_of_each() {
    let collector = Collector::start(partners()).await;
    let file = collector.dir.path().join("ads.csv");
    let name = file.to_str().unwrap();
    std::fs::write(
        &file,
        "placement,size,click\ntop,300x250,https://landing.example/a\nside,,\n",
    )
    .unwrap();
    let more = ["--csv", name, "--campaign", "spring", "--size", "1x1"];
    let (code, text, wrong) = tag(&collector, "my-adform", &more).await;
    assert_eq!((code, wrong.as_str()), (Some(0), ""));
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    assert_eq!(
        reader.headers().unwrap(),
        vec![
            "placement",
            "size",
            "click",
            "network",
            "impression",
            "click_url",
            "vast"
        ]
    );
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 2);
    for (row, parts) in rows.iter().zip([
        ["placement=top", "size=300x250", "campaign=spring"],
        ["placement=side", "size=1x1", "campaign=spring"],
    ]) {
        for part in parts {
            assert!(row[4].contains(part), "no {part} in {row:?}");
        }
        let pixel = row[4].strip_prefix("https://px.example").unwrap();
        assert_eq!(collector.get(pixel, &[]).await.status, 200);
    }
    assert!(rows[0][5].contains("/c?") && rows[1][5].is_empty());
    for (bad, said) in [
        ("placement,colour\ntop,red\n", "line 2: column colour"),
        ("placement,site\ntop,opne\n", "line 2: --site opne"),
        ("placement,size\na,1x1\nb,big\n", "line 3: --size big"),
    ] {
        std::fs::write(&file, bad).unwrap();
        let (code, text, wrong) = tag(&collector, "my-adform", &["--csv", name]).await;
        assert_eq!((code, text.as_str()), (Some(64), ""), "{bad}");
        assert!(wrong.contains(said), "no {said} in {wrong}");
    }
}

#[tokio::test]
async fn the_admin_listener_has_a_form_that_makes_the_same_tags() {
    let collector = Collector::start(
        partners().with("[[partner]]\nkey = \"young\"\nmapping = \"ttd\"\nsite = \"open\""),
    )
    .await;
    let ask = async |target: &str, host: &str| {
        let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        raw(collector.admin, request.as_bytes()).await
    };
    assert_eq!(ask("/tags", "evil.example").await.status, 403);
    let form = ask("/tags", "localhost").await;
    assert!(
        form.body.contains("<option value=\"my-adform\""),
        "{}",
        form.body
    );
    let policy = form.header("content-security-policy");
    assert!(policy.contains("form-action 'self'"), "{policy}");
    let made = ask(
        "/tags?at=https://px.example&partner=my-adform&campaign=spring",
        "localhost",
    )
    .await;
    let (_, by_command, _) = tag(&collector, "my-adform", &["--campaign", "spring"]).await;
    let pixel = urls(&by_command).remove(0).replace('&', "&#38;");
    assert!(made.body.contains(&pixel), "no {pixel} in {}", made.body);
    let young = ask("/tags?at=https://px.example&partner=young", "localhost").await;
    assert!(
        young.body.contains("partner young has no gvl_id"),
        "{}",
        young.body
    );
    assert_eq!(collector.get("/tags", &[]).await.status, 404);
}

#[tokio::test]
async fn a_partner_that_is_not_known_is_named_with_those_that_are() {
    let collector = Collector::start(partners()).await;
    let (code, text, wrong) = tag(&collector, "nobody", &[]).await;
    assert_eq!((code, text.as_str()), (Some(64), ""));
    assert!(
        wrong.contains("--partner nobody")
            && wrong.contains("my-adform, my-google, my-xandr, my-openrtb, my-cm360, my-ttd, my-meta, my-revive, bare"),
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
