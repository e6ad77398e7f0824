//! The two tables of the module's documentation, cell by cell.

mod reference;
mod vectors;

use std::borrow::Cow;

use super::*;
use crate::hit::{Flags, VisitorId};

/// A string by which vendor 2 may do everything, and vendor 1 nothing: of policy 4, with vendors as bits.
fn full_string() -> String {
    vectors::named("policy 4, few, as bits, all disclosed").string
}

/// One by which vendor 2 may store, and nothing else.
fn store_string() -> String {
    vectors::named("store alone").string
}

fn gpp_string() -> String {
    vectors::named("GPP with the USA: policy 4, long ranges, some disclosed, publisher's own")
        .string
}

const DEFAULT: Permit = Permit::STORE.with(Permit::MEASURE);
const OUTSIDE: Permit = Permit::ALL.without(Permit::LOCATE);
const CHOICE: Permit = Permit::MEASURE.with(Permit::LINK);
const CHOICE_TEXT: &str = "measure.link";

const RULES: Rules = Rules {
    gvl_id: Some(2),
    default_permit: DEFAULT,
    gdpr_0_permit: Permit::NONE,
};
const TRUSTING: Rules = Rules {
    gdpr_0_permit: OUTSIDE,
    ..RULES
};
const NO_VENDOR: Rules = Rules {
    gvl_id: None,
    ..RULES
};
const OTHER_VENDOR: Rules = Rules {
    gvl_id: Some(1),
    ..RULES
};

/// One row: the parameters that come under it, the rules, and the cells.
struct Row<'t> {
    /// `gdpr`, `gdpr_consent`, `gpp`, `gpp_sid`.
    said: Vec<[Option<&'t str>; 4]>,
    rules: &'t [Rules],
    /// Alone, with GPC, with a choice, with both.
    cells: [(Permit, ConsentSource); 4],
}

/// The cells of a row where nobody asked the visitor.
fn unasked(alone: Permit, source: ConsentSource) -> [(Permit, ConsentSource); 4] {
    [
        (alone, source),
        (Permit::NONE, ConsentSource::Gpc),
        (CHOICE, ConsentSource::Choice),
        (Permit::MEASURE, ConsentSource::Choice),
    ]
}

/// The cells of a row whose string permits all.
fn full(source: ConsentSource) -> [(Permit, ConsentSource); 4] {
    [
        (Permit::ALL, source),
        (Permit::ALL.without(SALE), source),
        (CHOICE, ConsentSource::Choice),
        (Permit::MEASURE, ConsentSource::Choice),
    ]
}

fn nothing(source: ConsentSource) -> [(Permit, ConsentSource); 4] {
    [(Permit::NONE, source); 4]
}

#[test]
fn each_cell_of_the_decision_table_holds_for_each_way_to_come_to_it() {
    use ConsentSource::{Choice, Default, Gdpr0, Gpp, Tcf};
    let (full_text, store, gpp) = (full_string(), store_string(), gpp_string());
    let (text, store, gpp) = (full_text.as_str(), store.as_str(), gpp.as_str());
    let cut = &text[..text.len() - 5];
    let trailing = format!("{text}B");
    let another = format!("{text}.x");
    let usa = vectors::named("GPP without section 2: usnat,usca").string;
    let table = [
        // 1. gdpr=0 that counts: no string is read.
        Row {
            said: [None, Some(""), Some(text), Some("x")]
                .into_iter()
                .flat_map(|tcf| {
                    [None, Some(""), Some(gpp)].map(|gpp| [Some("0"), tcf, gpp, Some("2")])
                })
                .collect(),
            rules: &[TRUSTING],
            cells: unasked(OUTSIDE, Gdpr0),
        },
        // 2. A TC string that permits all, whatever GPP says beside it.
        Row {
            said: [None, Some(""), Some("0"), Some("1"), Some("yes")]
                .into_iter()
                .flat_map(|gdpr| {
                    [None, Some(""), Some("x"), Some(gpp)]
                        .map(|gpp| [gdpr, Some(text), gpp, Some("7")])
                })
                .collect(),
            rules: &[RULES],
            cells: full(Tcf),
        },
        // 2. One that permits a part: the choice and it have nothing in common.
        Row {
            said: vec![
                [None, Some(store), None, None],
                [Some("1"), Some(store), Some(gpp), None],
            ],
            rules: &[RULES, TRUSTING],
            cells: [
                (Permit::STORE, Tcf),
                (Permit::STORE, Tcf),
                (Permit::NONE, Choice),
                (Permit::NONE, Choice),
            ],
        },
        // 2. One that is no consent, even beside a GPP string that is.
        Row {
            said: [cut, "x", "null", "=", &trailing, &another, gpp]
                .into_iter()
                .flat_map(|tcf| [None, Some(gpp)].map(|gpp| [Some("1"), Some(tcf), gpp, None]))
                .collect(),
            rules: &[RULES],
            cells: nothing(Tcf),
        },
        Row {
            said: vec![[None, Some(text), Some(gpp), None]],
            rules: &[NO_VENDOR, OTHER_VENDOR],
            cells: nothing(Tcf),
        },
        // 3. A GPP string whose section 2 permits all and is in force.
        Row {
            said: [
                None,
                Some(""),
                Some("2"),
                Some("7,2"),
                Some("2, 6"),
                Some("[2]"),
            ]
            .into_iter()
            .flat_map(|sid| [None, Some("0"), Some("1")].map(|gdpr| [gdpr, None, Some(gpp), sid]))
            .chain([[Some("1"), Some(""), Some(gpp), Some("2")]])
            .collect(),
            rules: &[RULES],
            cells: full(Gpp),
        },
        // 3. One that is not in force, has no section 2, or is malformed.
        Row {
            said: vec![
                [None, None, Some(gpp), Some("7")],
                [None, None, Some(gpp), Some("-1")],
                [None, None, Some(gpp), Some("22")],
                [None, None, Some(&usa), Some("2")],
                [None, None, Some("DBAA"), None],
                [None, None, Some("DBABMA"), None],
                [None, None, Some("DBABMA~"), None],
                [None, None, Some("x"), None],
                [None, None, Some(text), None],
                [
                    None,
                    None,
                    gpp.rsplit_once('~').map(|(before, _)| before),
                    None,
                ],
            ],
            rules: &[RULES],
            cells: nothing(Gpp),
        },
        Row {
            said: vec![[None, None, Some(gpp), None]],
            rules: &[NO_VENDOR, OTHER_VENDOR],
            cells: nothing(Gpp),
        },
        // 4. A string is missing where one belongs.
        Row {
            said: vec![
                [Some("1"), None, None, None],
                [Some("1"), Some(""), None, None],
                [Some("1"), Some(""), Some(""), Some("2")],
                [Some("1"), None, Some(""), None],
                [Some(""), None, None, None],
                [Some("yes"), None, None, Some("2")],
                [None, Some(""), None, None],
                [None, Some(""), Some(""), None],
            ],
            rules: &[RULES, TRUSTING, NO_VENDOR],
            cells: nothing(Tcf),
        },
        Row {
            said: vec![[Some("0"), Some(""), None, None]],
            rules: &[RULES],
            cells: nothing(Tcf),
        },
        Row {
            said: vec![
                [None, None, Some(""), None],
                [None, None, Some(""), Some("2")],
            ],
            rules: &[RULES, TRUSTING],
            cells: nothing(Gpp),
        },
        // 5. Nothing is said, or gdpr=0 that does not count.
        Row {
            said: vec![[None; 4], [None, None, None, Some("2")]],
            rules: &[RULES, TRUSTING, NO_VENDOR],
            cells: unasked(DEFAULT, Default),
        },
        Row {
            said: vec![[Some("0"), None, None, None]],
            rules: &[RULES, NO_VENDOR],
            cells: unasked(DEFAULT, Default),
        },
    ];
    for row in table {
        for said in &row.said {
            for rules in row.rules {
                check(*said, rules, row.cells);
            }
        }
    }
}

fn check(said: [Option<&str>; 4], rules: &Rules, cells: [(Permit, ConsentSource); 4]) {
    let [gdpr, tcf, gpp, gpp_sid] = said.map(|value| value.map(Cow::Borrowed));
    let columns = [
        (false, None),
        (true, None),
        (false, Some(CHOICE_TEXT)),
        (true, Some(CHOICE_TEXT)),
    ];
    for ((gpc, choice), cell) in columns.into_iter().zip(cells) {
        let signals = Signals {
            gdpr: gdpr.clone(),
            tcf: tcf.clone(),
            gpp: gpp.clone(),
            gpp_sid: gpp_sid.clone(),
            gpc,
            choice,
        };
        let decided = decide(&signals, rules, Kind::Impression, &Strings::default());
        assert_eq!(decided, cell, "{signals:?} {rules:?}");
    }
}

#[test]
fn a_choice_gives_the_flags_that_it_names_and_narrows_a_string() {
    let text = full_string();
    for (choice, permit) in [
        ("none", Permit::NONE),
        ("", Permit::NONE),
        ("store.measure.profile.match.link.locate", Permit::ALL),
        ("measure.everything", Permit::MEASURE),
        ("STORE", Permit::NONE),
    ] {
        let mut signals = Signals {
            choice: Some(choice),
            ..Signals::default()
        };
        let of =
            |signals: &Signals<'_>| decide(signals, &RULES, Kind::PageView, &Strings::default());
        assert_eq!(of(&signals), (permit, ConsentSource::Choice));
        signals.tcf = Some(Cow::Borrowed(&text));
        let source = if permit == Permit::ALL {
            ConsentSource::Tcf
        } else {
            ConsentSource::Choice
        };
        assert_eq!(of(&signals), (permit, source), "{choice} beside a string");
    }
}

#[test]
fn a_string_that_fills_its_parameter_may_have_been_cut_and_is_none() {
    let zeros =
        |length: usize| format!("{}.{}", full_string(), "Y".to_owned() + &"A".repeat(length));
    let of = |text: &str| {
        let signals = Signals {
            tcf: Some(Cow::Borrowed(text)),
            ..Signals::default()
        };
        decide(&signals, &RULES, Kind::PageView, &Strings::default()).0
    };
    let room = URI_BYTES_MAX - full_string().len() - 3;
    assert_eq!(of(&zeros(room)), Permit::ALL);
    assert_eq!(of(&zeros(room + 1)), Permit::NONE);
}

fn telltale(kind: Kind) -> Hit<'static> {
    let mut hit = Hit::new(UnixMicros(1_700_000_012_345_678), kind, "site");
    for text in [
        &mut hit.user_agent,
        &mut hit.page_url,
        &mut hit.referrer,
        &mut hit.event_name,
        &mut hit.event_id,
        &mut hit.partner_uid,
        &mut hit.maid,
        &mut hit.device_id,
        &mut hit.category,
        &mut hit.params,
        &mut hit.hints.brands,
        &mut hit.hints.platform,
        &mut hit.hints.platform_version,
        &mut hit.hints.model,
        &mut hit.hints.form_factors,
    ] {
        *text = Cow::Borrowed("telltale");
    }
    hit.hints.mobile = Some(true);
    for text in [
        &mut hit.partner,
        &mut hit.campaign,
        &mut hit.creative,
        &mut hit.placement,
        &mut hit.publisher,
    ] {
        *text = Cow::Borrowed("ad");
    }
    hit.client_ip = Some([192, 0, 2, 1].into());
    hit.visitor = Some(VisitorId(*b"telltaletelltale"));
    hit.flags = Flags::NEW_VISITOR;
    hit.permit = Permit::ALL;
    hit.consent_source = ConsentSource::Tcf;
    hit
}

/// Every set of flags.
fn permits() -> impl Iterator<Item = Permit> {
    (0..64_u8).map(|bits| {
        Permit::NAMED
            .iter()
            .enumerate()
            .filter(|(at, _)| bits & 1 << at != 0)
            .fold(Permit::NONE, |permit, (_, (_, flag))| permit.with(*flag))
    })
}

#[test]
fn each_row_of_the_second_table_holds_for_every_permit() {
    for permit in permits() {
        for kind in Kind::ALL
            .into_iter()
            .filter(|kind| *kind != Kind::Withdrawal)
        {
            let mut hit = telltale(kind);
            hit.permit = permit;
            let before = hit.clone();
            strip(&mut hit);
            let expected = if !permit.allows(Permit::MEASURE) {
                let ad = || Cow::Borrowed("ad");
                Hit {
                    permit,
                    consent_source: ConsentSource::Tcf,
                    partner: ad(),
                    campaign: ad(),
                    creative: ad(),
                    placement: ad(),
                    publisher: ad(),
                    ..Hit::new(UnixMicros(1_699_999_980_000_000), kind, "site")
                }
            } else if !permit.allows(Permit::STORE) {
                Hit {
                    visitor: None,
                    partner_uid: Cow::Borrowed(""),
                    maid: Cow::Borrowed(""),
                    device_id: Cow::Borrowed(""),
                    ..before
                }
            } else {
                before
            };
            assert_eq!(hit, expected, "{permit}");
            let mut bytes = Vec::new();
            hit.encode(&mut bytes);
            let told = String::from_utf8_lossy(&bytes).contains("telltale");
            assert_eq!(told, permit.allows(Permit::MEASURE), "{permit}");
        }
    }
}

#[test]
fn a_withdrawal_keeps_site_time_and_visitor_and_permits_nothing() {
    let mut hit = telltale(Kind::Withdrawal);
    strip(&mut hit);
    let expected = Hit {
        visitor: Some(VisitorId(*b"telltaletelltale")),
        consent_source: ConsentSource::Tcf,
        ..Hit::new(UnixMicros(1_700_000_012_345_678), Kind::Withdrawal, "site")
    };
    assert_eq!(hit, expected);
}
