//! Values that are repeated, for indexes and reports that take one value to be rare.

use super::{Attack, Manner, PARTNER, SITE};

pub(super) const ATTACKS: &[Attack] = &[
    Attack {
        name: "equal-ids",
        aim: "loading: the same partner's ID, MAID, device ID and click ID in every hit",
        connections: 16,
        request: repeat_ids,
        manner: Manner::Exchanges,
        query: Some(
            "select count(*) from avtryck.hit where partner_uid collate \"C\" = 'constant'",
        ),
    },
    Attack {
        name: "equal-clicks",
        aim: "the reports: clicks with one ID, and conversions that name it",
        connections: 16,
        request: name_one_click,
        manner: Manner::Exchanges,
        query: Some("select count(*) from avtryck.campaign_daily where day >= current_date - 1"),
    },
    Attack {
        name: "equal-paths",
        aim: "the path of conversions: impressions, clicks and conversions of one subject",
        connections: 16,
        request: name_one_click,
        manner: Manner::Exchanges,
        query: Some("select count(*) from avtryck.conversion_path where day >= current_date - 1"),
    },
];

/// Appends a GET.
fn get(target: &str, bytes: &mut Vec<u8>) {
    let request = format!("GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
    bytes.extend_from_slice(request.as_bytes());
}

fn ad(values: &str) -> String {
    format!("/i.gif?site={SITE}&partner={PARTNER}&campaign=c&creative=b&{values}")
}

fn repeat_ids(_: u64, bytes: &mut Vec<u8>) {
    let ids = "uid=constant&maid=constant&did=constant&click_id=constant&ev=click";
    get(&ad(ids), bytes);
}

fn name_one_click(number: u64, bytes: &mut Vec<u8>) {
    match number % 4 {
        0 => get(&ad("uid=constant&ev=click&click_id=constant"), bytes),
        1 => get(&ad("uid=constant"), bytes),
        2 => get(&ad("uid=constant&ev=conversion&avclid=constant"), bytes),
        _ => get(
            &format!("/p.gif?site={SITE}&e=conversion&avclid=constant"),
            bytes,
        ),
    }
}
