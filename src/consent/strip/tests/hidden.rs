//! IDs in spellings that hide them.

use serde_json::json;

use super::{SECRET, json_left, measured, url_left};
use crate::consent::strip;

#[test]
fn without_store_no_spelling_of_a_name_or_of_an_address_hides_an_id() {
    for name in [
        "%75ser_id",
        "user%5Fid",
        "%2575id",
        "_ga_X1Y2Z3",
        "_GA_x1",
        "_pk_id.1.1fff",
        "_pk_ses.1.1fff",
        "_sp_id.1fff",
        "_hjSessionUser_42",
        "_hp2_id.42",
        "_gcl_au",
        "_clck",
        "_scid",
    ] {
        assert_eq!(
            json_left(&json!({"x": 1, name: SECRET})),
            json!({"x": 1}),
            "{name}"
        );
        let url = format!("https://shop.example/?a=1&{name}={SECRET}");
        assert_eq!(url_left(&url), "https://shop.example/?a=1", "{name}");
    }
    for address in [
        "s3cr3t\u{ff20}mail.example",
        "s3cr3t\u{fe6b}mail.example",
        "s3cr3t@mail\u{3002}example",
        "s3cr3t\u{ff20}mail\u{ff0e}example",
    ] {
        assert_eq!(json_left(&json!({"note": address})), json!({}), "{address}");
        assert_eq!(
            url_left(&format!("https://shop.example/a/{address}")),
            "https://shop.example/a/"
        );
        let encoded =
            percent_encoding::utf8_percent_encode(address, percent_encoding::NON_ALPHANUMERIC);
        assert_eq!(
            url_left(&format!("https://shop.example/?m={encoded}")),
            "https://shop.example/"
        );
    }
    let referrer = json!({"context": {"referrer": {"id": SECRET, "type": "dataxu", "url": "https://news.example/"}}});
    let left = json!({"context": {"referrer": {"type": "dataxu", "url": "https://news.example/"}}});
    assert_eq!(json_left(&referrer), left);
    assert_eq!(
        json_left(&json!({"context.referrer.id": SECRET, "referrer": "https://news.example/"})),
        json!({"referrer": "https://news.example/"})
    );
    // Names that begin alike stay.
    let others =
        json!({"_gap": 1, "_pkg": "a", "ga4": "G-1", "_ga": null, "at 50 %": "x", "scids": 1});
    let mut left = others.clone();
    left.as_object_mut().unwrap().remove("_ga");
    assert_eq!(json_left(&others), left);
}

#[test]
fn without_store_pairs_and_parts_of_names_hide_nothing() {
    for page in [
        "p/user_id%3Ds3cr3t/x",
        "p/user_id%253Ds3cr3t/x",
        "p/%7B%22uid%22%3A%22s3cr3t%22%7D/x",
    ] {
        assert_eq!(
            url_left(&format!("https://shop.example/{page}")),
            "https://shop.example/p//x"
        );
    }
    assert_eq!(
        url_left("https://shop.example/#user_id%3Ds3cr3t"),
        "https://shop.example/"
    );
    for name in [
        "userId[0]",
        "user_id.value",
        "email[x]",
        "a[b][user_id][0]",
        "\u{ff55}ser_id",
        "cookies[_ga_ABC]",
        " _ga_X",
        "cookies._pk_id.1.1fff",
        "users[0][id]",
    ] {
        assert_eq!(
            json_left(&json!({"x": 1, name: SECRET})),
            json!({"x": 1}),
            "{name}"
        );
    }
    assert_eq!(
        json_left(&json!({"users": [{"id": SECRET, "n": 1}]})),
        json!({"users": [{"n": 1}]})
    );
    let mut hit = measured();
    hit.event_name = "user_id=s3cr3t".into();
    hit.campaign = "{\"uid\":\"s3cr3t\"}".into();
    hit.placement = "https://x.example/?uid=s3cr3t&a=1".into();
    hit.creative = "size=300x250".into();
    hit.hints.model = "s3cr3t@mail.example".into();
    strip(&mut hit);
    assert!(
        !hit.export()
            .values()
            .any(|value| value.to_string().contains(SECRET)),
        "{hit:?}"
    );
    assert_eq!(
        (&*hit.placement, &*hit.creative),
        ("https://x.example/?a=1", "size=300x250")
    );
    // Pictures for fine screens are no addresses, and parts of other names are none of IDs.
    for page in [
        "https://shop.example/img/logo@2x.png",
        "https://shop.example/a%20b/c%3D",
    ] {
        assert_eq!(url_left(page), page);
    }
    let others = json!({"price.value": 1, "items[0]": "a", "users": 120, "step[1]": "b"});
    assert_eq!(json_left(&others), others);
}

#[test]
fn without_store_what_was_json_before_it_was_cut_leaves() {
    for cut in [
        r#"{"uid":"s3cr3t"#,
        r#"{"a":[1,{"uid" : "s3cr3t"#,
        r#"[{"uid":"s3cr3t"},"#,
    ] {
        assert_eq!(
            json_left(&json!({"data": cut, "x": 1})),
            json!({"x": 1}),
            "{cut}"
        );
        let encoded =
            percent_encoding::utf8_percent_encode(cut, percent_encoding::NON_ALPHANUMERIC);
        assert_eq!(
            url_left(&format!("https://shop.example/?d={encoded}")),
            "https://shop.example/"
        );
    }
    let titles = json!({"title": "[Sale] shoes", "other": "{curly}", "third": "[a \"b\" c]"});
    assert_eq!(json_left(&titles), titles);
}

#[test]
fn a_name_that_was_escaped_without_end_is_looked_at_once() {
    let name = format!("%{}75id", "25".repeat(30_000));
    let begun = std::time::Instant::now();
    let harmless = json!({"x": 1, name: SECRET});
    assert_eq!(json_left(&harmless), harmless);
    // Decoded until nothing changes it would take minutes, or more stack than there is.
    assert!(begun.elapsed() < std::time::Duration::from_secs(5));
}
