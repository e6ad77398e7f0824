//! What holds of every hit that a request became.

use std::net::IpAddr;

use avtryck::clock::UnixMicros;
use avtryck::consent;
use avtryck::consent::Signals;
use avtryck::hit::limits::{
    CLICK_ID_BYTES_MAX, EVENT_BYTES_MAX, PARAMS_BYTES_MAX, PARAMS_MAX, TEXT_BYTES_MAX,
    URI_BYTES_MAX, URL_BYTES_MAX, USER_AGENT_BYTES_MAX,
};
use avtryck::hit::{Flags, Hit, Permit, VisitorId};
use serde_json::{Map, Value};

/// When the hits of the targets were received: in the middle of a minute.
pub(crate) const NOW: UnixMicros = UnixMicros(1_800_000_012_345_678);
/// All fields together, with room to spare.
const HIT_BYTES_MAX: usize = 32 * 1024;
const VISITOR: VisitorId = VisitorId(*b"telltale visitor");
const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 77));

/// A hit is within its limits, can be stored, survives the spool and can be stripped.
pub(crate) fn hit(hit: &Hit<'_>) {
    for (text, bytes_max) in texts(hit) {
        assert!(text.len() <= bytes_max, "{bytes_max} bytes: {text:?}");
        assert!(!text.contains(|c: char| c.is_ascii_control()), "{text:?}");
    }
    params(&hit.params);
    let mut bytes = Vec::new();
    hit.encode(&mut bytes);
    assert!(bytes.len() <= HIT_BYTES_MAX);
    assert_eq!(Hit::decode(&bytes).as_ref(), Ok(hit));
    for permit in [Permit::NONE, Permit::STORE, Permit::MEASURE, Permit::ALL] {
        strip(hit, permit);
    }
}

/// Signals are within the limits of their parameters.
pub(crate) fn signals(signals: &Signals<'_>) {
    for (text, bytes_max) in [
        (&signals.gdpr, TEXT_BYTES_MAX),
        (&signals.tcf, URI_BYTES_MAX),
        (&signals.gpp, URI_BYTES_MAX),
        (&signals.gpp_sid, TEXT_BYTES_MAX),
    ] {
        let text = text.as_deref().unwrap_or_default();
        assert!(text.len() <= bytes_max, "{bytes_max} bytes: {text:?}");
        assert!(!text.contains(|c: char| c.is_ascii_control()), "{text:?}");
    }
}

/// Each text but `params`, with its limit.
fn texts<'h>(hit: &'h Hit<'_>) -> [(&'h str, usize); 22] {
    [
        (&hit.site, 64),
        (&hit.user_agent, USER_AGENT_BYTES_MAX),
        (&hit.page_url, URL_BYTES_MAX),
        (&hit.referrer, URL_BYTES_MAX),
        (&hit.event_name, EVENT_BYTES_MAX),
        (&hit.event_id, EVENT_BYTES_MAX),
        (&hit.partner, TEXT_BYTES_MAX),
        (&hit.campaign, TEXT_BYTES_MAX),
        (&hit.creative, TEXT_BYTES_MAX),
        (&hit.placement, TEXT_BYTES_MAX),
        (&hit.publisher, TEXT_BYTES_MAX),
        (&hit.partner_uid, TEXT_BYTES_MAX),
        (&hit.maid, TEXT_BYTES_MAX),
        (&hit.device_id, TEXT_BYTES_MAX),
        (&hit.category, TEXT_BYTES_MAX),
        (&hit.click_id, CLICK_ID_BYTES_MAX),
        (&hit.session_id, TEXT_BYTES_MAX),
        (&hit.hints.brands, TEXT_BYTES_MAX),
        (&hit.hints.platform, TEXT_BYTES_MAX),
        (&hit.hints.platform_version, TEXT_BYTES_MAX),
        (&hit.hints.model, TEXT_BYTES_MAX),
        (&hit.hints.form_factors, TEXT_BYTES_MAX),
    ]
}

/// Further parameters are a JSON object that `jsonb` takes, or nothing.
fn params(text: &str) {
    if text.is_empty() {
        return;
    }
    assert!(text.len() <= PARAMS_BYTES_MAX, "{} bytes", text.len());
    let members: Map<String, Value> = serde_json::from_str(text).expect("a JSON object");
    assert!(members.len() <= PARAMS_MAX, "{} members", members.len());
    assert!(!holds_nul(&Value::Object(members)), "{text:?}");
}

fn holds_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(values) => values.iter().any(holds_nul),
        Value::Object(members) => {
            let named = |(name, value): (&String, &Value)| name.contains('\0') || holds_nul(value);
            members.iter().any(named)
        }
        _ => false,
    }
}

/// What a permit does not allow is not in the hit any more, nor in its bytes.
fn strip(hit: &Hit<'_>, permit: Permit) {
    let mut told = hit.clone();
    told.permit = permit;
    told.visitor = Some(VISITOR);
    told.client_ip = Some(CLIENT);
    let before = told.clone();
    consent::strip(&mut told);
    let mut again = told.clone();
    consent::strip(&mut again);
    assert_eq!(again, told, "nothing is left to strip");
    let mut bytes = Vec::new();
    told.encode(&mut bytes);
    let holds = |telltale: &[u8]| bytes.windows(telltale.len()).any(|part| part == telltale);
    if permit.allows(Permit::STORE.with(Permit::MEASURE)) {
        assert_eq!(told, before);
        return;
    }
    // Of a count, what a visitor permits is noted under their ID.
    let visitor = Some(VISITOR).filter(|_| permit.allows(Permit::STORE));
    assert_eq!(told.visitor, visitor);
    assert_eq!(holds(&VISITOR.0), visitor.is_some());
    let of_ids = [
        &told.partner_uid,
        &told.maid,
        &told.device_id,
        &told.click_id,
        &told.session_id,
    ];
    assert!(of_ids.iter().all(|text| text.is_empty()), "{told:?}");
    if permit.allows(Permit::MEASURE) {
        assert_eq!(told.client_ip, Some(CLIENT));
        return;
    }
    // Without `store` a text loses what it may hold of an ID.
    let ad = if permit.allows(Permit::STORE) {
        hit
    } else {
        &told
    };
    let counted = Hit {
        permit,
        consent_source: hit.consent_source,
        visitor,
        flags: hit.flags.and(Flags::OF_COUNTS),
        partner: hit.partner.clone(),
        campaign: ad.campaign.clone(),
        creative: ad.creative.clone(),
        placement: ad.placement.clone(),
        publisher: ad.publisher.clone(),
        ..Hit::new(
            UnixMicros(1_800_000_000_000_000),
            hit.kind,
            hit.site.clone(),
        )
    };
    assert_eq!(told, counted);
}
