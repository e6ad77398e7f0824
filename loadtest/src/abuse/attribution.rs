//! Figures that a stranger tries to forge: conversions for a click, for a campaign, and a partner's
//! ID of somebody else.

use std::io::Write as _;

use super::{Attack, Manner, PARTNER, SITE};

/// Looks at the figures of the campaign that all of this is for.
const FIGURES: &str = "select sum(gross_conversions), sum(net_conversions) from avtryck.campaign_daily \
                       where day = (now() at time zone 'UTC')::date and campaign = 'forged'";

pub(super) const ATTACKS: &[Attack] = &[
    Attack {
        name: "spread click ID",
        aim: "net conversions of everybody for one click",
        connections: 4,
        request: follow_one_click,
        manner: Manner::Exchanges,
        query: Some(FIGURES),
    },
    Attack {
        name: "named campaign",
        aim: "net conversions for a campaign that nobody was shown",
        connections: 4,
        request: name_campaign,
        manner: Manner::Exchanges,
        query: Some(FIGURES),
    },
    Attack {
        name: "unknown clicks",
        aim: "lookups of as many clicks as conversions",
        connections: 4,
        request: name_unknown_click,
        manner: Manner::Exchanges,
        query: Some(FIGURES),
    },
    Attack {
        name: "claimed partner ID",
        aim: "one partner's ID for every visitor",
        connections: 4,
        request: claim_id,
        manner: Manner::Exchanges,
        query: None,
    },
];

fn get(target: std::fmt::Arguments<'_>, out: &mut Vec<u8>) {
    let agent = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:135.0) Gecko/20100101 Firefox/135.0";
    // Writing to a vector cannot fail.
    write!(
        out,
        "GET {target} HTTP/1.1\r\nHost: px.example\r\nUser-Agent: {agent}\r\nSec-Fetch-Site: cross-site\r\n\r\n"
    )
    .ok();
}

fn follow_one_click(number: u64, out: &mut Vec<u8>) {
    let ad = format!("site={SITE}&partner={PARTNER}&campaign=forged&creative=big");
    match number {
        0 => get(format_args!("/i.gif?{ad}&ev=click&click_id=spread"), out),
        _ => get(
            format_args!("/p.gif?site={SITE}&e=conversion&id=o-{number}&avclid=spread"),
            out,
        ),
    }
}

fn name_campaign(number: u64, out: &mut Vec<u8>) {
    let ad = format!("partner={PARTNER}&campaign=forged&creative=big");
    get(
        format_args!("/p.gif?site={SITE}&e=conversion&id=n-{number}&{ad}"),
        out,
    );
}

fn name_unknown_click(number: u64, out: &mut Vec<u8>) {
    get(
        format_args!("/p.gif?site={SITE}&e=conversion&id=u-{number}&avclid=unknown-{number}"),
        out,
    );
}

fn claim_id(number: u64, out: &mut Vec<u8>) {
    get(
        format_args!("/sync/{PARTNER}?site={SITE}&uid=victim&cb={number}"),
        out,
    );
}
