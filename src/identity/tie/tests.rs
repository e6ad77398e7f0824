#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::hit::VisitorId;

const MAID: &str = "38400000-8cf0-11bd-b23e-10b96e40000d";

fn rules() -> TieRules {
    let types = [
        ("browsers", IdType::Browser),
        ("devices", IdType::Device),
        ("persons", IdType::Person),
        ("nobody", IdType::None),
    ];
    let types = types.map(|(partner, id_type)| (partner.to_owned(), id_type));
    let blocked = ["Shared-Device".to_owned()];
    TieRules::new(types, &blocked, [UserKey([0xbb; 16])])
}

/// A hit with every ID.
fn whole(kind: Kind) -> Hit<'static> {
    let mut hit = Hit::new(UnixMicros(5), kind, "shop");
    hit.permit = Permit::ALL;
    hit.visitor = Some(VisitorId([7; 16]));
    (hit.maid, hit.device_id) = (MAID.into(), "device-1".into());
    (hit.partner, hit.partner_uid) = ("browsers".into(), "partner-1".into());
    hit.user_key = Some(UserKey([5; 16]));
    hit
}

fn ties<'h>(hit: &'h Hit<'_>, flags: Flags) -> Vec<Tie<'h>> {
    let ids = Ids::of(hit, &rules());
    let ties = Tie::of(hit, hit.flags.with(flags), &ids, &rules());
    ties.into_iter().flatten().collect()
}

/// The kinds of the hub and of what is tied to it.
fn star(hit: &Hit<'_>) -> Vec<(NodeKind, NodeKind)> {
    let kinds = |tie: &Tie<'_>| {
        assert!(tie.a < tie.b);
        (tie.a_kind.min(tie.b_kind), tie.a_kind.max(tie.b_kind))
    };
    ties(hit, Flags::default()).iter().map(kinds).collect()
}

#[test]
fn the_first_of_visitor_maid_device_and_partner_is_the_hub() {
    use NodeKind::{DeviceId, Maid, PartnerUid, User, Visitor};
    let mut hit = whole(Kind::PageView);
    let all = [Maid, DeviceId, PartnerUid, User];
    assert_eq!(star(&hit), all.map(|kind| (Visitor, kind)));
    hit.visitor = None;
    assert_eq!(
        star(&hit),
        [DeviceId, PartnerUid, User].map(|kind| (Maid, kind))
    );
    hit.maid = "".into();
    assert_eq!(star(&hit), [PartnerUid, User].map(|kind| (DeviceId, kind)));
    hit.device_id = "".into();
    assert_eq!(star(&hit), [(PartnerUid, User)]);
    // A user owns, and is no hub.
    hit.partner_uid = "".into();
    assert_eq!(star(&hit), []);
}

#[test]
fn nothing_is_tied_without_store_measure_and_link() {
    for bits in 0..64 {
        let mut hit = whole(Kind::Sync);
        hit.permit = Permit::from_bits(bits);
        let is_tied = !ties(&hit, Flags::PROVED).is_empty();
        assert_eq!(is_tied, bits & 19 == 19, "{}", hit.permit);
    }
}

#[test]
fn a_hit_that_no_person_made_or_that_may_be_anybodys_ties_nothing() {
    let without = [
        "bot",
        "data_centre",
        "bad_agent",
        "over_limit",
        "macro",
        "prefetch",
        "preview",
        "third_party",
        "mail_proxy",
        "unclear_consent",
        "wrong_clock",
        "replayed",
    ];
    let hit = whole(Kind::PageView);
    for (name, flag) in Flags::ALL {
        let is_tied = !ties(&hit, flag).is_empty();
        assert_eq!(is_tied, !without.contains(&name), "{name}");
    }
}

#[test]
fn a_partners_id_unites_if_it_is_a_browsers_or_a_devices() {
    for (partner, unites) in [
        ("browsers", true),
        ("devices", true),
        ("persons", false),
        ("nobody", false),
        ("unknown", false),
        ("", false),
    ] {
        let mut hit = whole(Kind::Impression);
        hit.partner = partner.into();
        let found = ties(&hit, Flags::default());
        let of_partner = found.iter().find(|tie| !tie.partner.is_empty());
        assert_eq!(
            of_partner.map(|tie| &*tie.partner),
            unites.then_some(partner)
        );
        assert_eq!(found.len(), if unites { 4 } else { 3 }, "{partner}");
    }
}

#[test]
fn a_browser_proves_its_visitor_and_what_was_signed_for_it_and_a_server_proves_all() {
    use NodeKind::{PartnerUid, User};
    let proved = |hit: &Hit<'_>, flags| {
        let found = ties(hit, flags);
        let proved = found.iter().filter(|tie| tie.is_proved);
        proved
            .map(|tie| tie.a_kind.max(tie.b_kind))
            .collect::<Vec<_>>()
    };
    let none = Flags::default();
    let page = whole(Kind::PageView);
    assert_eq!(proved(&page, none), []);
    // A site that signed its user said nothing of the MAID beside it.
    assert_eq!(proved(&page, Flags::PROVED), [User]);
    assert_eq!(proved(&page, Flags::SIGNED), []);
    let mut unknown = page.clone();
    unknown.visitor = None;
    assert_eq!(
        proved(&unknown, Flags::PROVED),
        [],
        "nobody proves the MAID"
    );
    // An own system vouches for all that it names.
    let of_system = Flags::PROVED.with(Flags::SYSTEM);
    assert_eq!(proved(&unknown, of_system).len(), 3);
    let sync = whole(Kind::Sync);
    assert_eq!(proved(&sync, Flags::SIGNED), [PartnerUid]);
    assert_eq!(proved(&sync, none), []);
    assert!(
        ties(&sync, none)
            .iter()
            .all(|tie| tie.source == TieSource::Sync)
    );
    let of_system = proved(&unknown, Flags::PROVED.with(Flags::SYSTEM));
    assert_eq!(of_system.len(), 3);
    // A callback that only has a token may be anybody's.
    let callback = whole(Kind::Callback);
    assert_eq!(ties(&callback, none), []);
    assert_eq!(proved(&callback, Flags::PROVED).len(), 4);
}

#[test]
fn values_that_many_have_tie_nothing() {
    for (maid, device, user, left) in [
        (MAID, "device-1", 5, 4),
        ("no-uuid-but-long-enough", "device-1", 5, 3),
        ("11111111-1111-1111-1111-111111111111", "device-1", 5, 3),
        (MAID, "1234567", 5, 3),
        (MAID, "zzzzzzzzzzzz", 5, 3),
        (MAID, "shared-DEVICE", 5, 3),
        (MAID, "device-1", 0xbb, 3),
    ] {
        let mut hit = whole(Kind::PageView);
        (hit.maid, hit.device_id) = (maid.into(), device.into());
        hit.user_key = Some(UserKey([user; 16]));
        assert_eq!(ties(&hit, Flags::default()).len(), left, "{maid} {device}");
    }
}

#[test]
fn a_link_ties_two_visitors_since_it_was_followed_and_nobody_vouches_for_it() {
    let [own, other] = [VisitorId([2; 16]), VisitorId([1; 16])];
    let link = |linked: VisitorId, permit| Hit {
        visitor: Some(own),
        partner_uid: linked.to_string().into(),
        occurred_at: Some(UnixMicros(7)),
        permit,
        ..Hit::new(UnixMicros(9), Kind::Sync, "news")
    };
    let hit = link(other, LinkPermit::NEEDED);
    for flags in [Flags::default(), Flags::SIGNED, Flags::PROVED] {
        let ties = ties(&hit, flags);
        let [tie] = &*ties else {
            panic!("one tie: {ties:?}");
        };
        assert_eq!((tie.a, tie.b), (Node(other.0), Node(own.0)));
        assert_eq!(
            (tie.a_kind, tie.b_kind),
            (NodeKind::Visitor, NodeKind::Visitor)
        );
        assert_eq!((tie.at, tie.source), (UnixMicros(7), TieSource::Sync));
        assert!(!tie.is_proved && tie.partner.is_empty());
    }
    assert!(ties(&link(own, LinkPermit::NEEDED), Flags::default()).is_empty());
    for flag in [Flags::REPLAYED, Flags::THIRD_PARTY, Flags::BOT] {
        assert!(ties(&hit, flag).is_empty(), "{flag}");
    }
    for lacking in [Permit::STORE, Permit::MEASURE, Permit::LINK] {
        let hit = link(other, Permit::ALL.without(lacking));
        assert!(ties(&hit, Flags::default()).is_empty(), "{lacking:?}");
    }
}

#[test]
fn a_refusal_is_what_a_subject_said_itself_about_an_id_that_may_be_stored() {
    let explicit = [2, 3, 4, 5];
    for source in ConsentSource::ALL {
        for bits in 0..64_u64 {
            let refuses = explicit.contains(&source.number()) && bits & 1 == 1 && bits & 19 != 19;
            let permit = Permit::from_bits(bits);
            assert_eq!(is_refusal(permit, source), refuses, "{source:?} {permit}");
        }
    }
}
