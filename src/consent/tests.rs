//! The two tables of the module's documentation, cell by cell.

mod reference;
mod vectors;

use std::borrow::Cow;

use super::rules::SALE;
use super::*;
use crate::clock::UnixMicros;
use crate::hit::limits::URI_BYTES_MAX;
use crate::hit::{ConsentSource, Flags, Hit, Kind, Permit, VisitorId};

/// A string that permits vendor 2 everything and vendor 1 nothing: of policy 4, with vendors as
/// bits.
fn full_string() -> String {
    vectors::named("policy 4, few, as bits, all disclosed").string
}

/// A string that permits vendor 2 to store, and nothing else.
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

const RULES: PermitRules = PermitRules {
    gvl_id: Some(2),
    default_permit: DEFAULT,
    gdpr_0_permit: Permit::NONE,
};
const TRUSTING: PermitRules = PermitRules {
    gdpr_0_permit: OUTSIDE,
    ..RULES
};
const NO_VENDOR: PermitRules = PermitRules {
    gvl_id: None,
    ..RULES
};
const OTHER_VENDOR: PermitRules = PermitRules {
    gvl_id: Some(1),
    ..RULES
};

/// One row: the parameters that lead to it, the rules, and the cells.
struct Row<'t> {
    /// `gdpr`, `gdpr_consent`, `gpp`, `gpp_sid`.
    said: Vec<[Option<&'t str>; 4]>,
    rules: &'t [PermitRules],
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

/// The cells of a row whose string permits everything.
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

/// Checks every cell of a row, for each set of parameters and rules that leads to it.
fn check_row(row: &Row<'_>) {
    for said in &row.said {
        for rules in row.rules {
            check_cells(*said, rules, row.cells);
        }
    }
}

#[test]
fn row_1_where_gdpr_0_counts_no_string_is_read() {
    let (text, gpp) = (full_string(), gpp_string());
    let tcf = [None, Some(""), Some(text.as_str()), Some("x")];
    let gpp = [None, Some(""), Some(gpp.as_str())];
    check_row(&Row {
        said: tcf
            .into_iter()
            .flat_map(|tcf| gpp.map(|gpp| [Some("0"), tcf, gpp, Some("2")]))
            .collect(),
        rules: &[TRUSTING],
        cells: unasked(OUTSIDE, ConsentSource::Gdpr0),
    });
}

#[test]
fn row_2_a_tc_string_decides_whatever_a_gpp_string_says() {
    use ConsentSource::{Choice, Tcf};
    let (text, store, gpp) = (full_string(), store_string(), gpp_string());
    let (text, store, gpp) = (text.as_str(), store.as_str(), gpp.as_str());
    let beside = [None, Some(""), Some("x"), Some(gpp)];
    check_row(&Row {
        said: [None, Some(""), Some("0"), Some("1"), Some("yes")]
            .into_iter()
            .flat_map(|gdpr| beside.map(|gpp| [gdpr, Some(text), gpp, Some("7")]))
            .collect(),
        rules: &[RULES],
        cells: full(Tcf),
    });
    // A string that permits a part and has nothing in common with the choice.
    check_row(&Row {
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
    });
    // A string that is not consent, even beside a GPP string that is.
    let cut = &text[..text.len() - 5];
    let trailing = format!("{text}B");
    let another = format!("{text}.x");
    check_row(&Row {
        said: [cut, "x", "null", "=", &trailing, &another, gpp]
            .into_iter()
            .flat_map(|tcf| [None, Some(gpp)].map(|gpp| [Some("1"), Some(tcf), gpp, None]))
            .collect(),
        rules: &[RULES],
        cells: nothing(Tcf),
    });
    check_row(&Row {
        said: vec![[None, Some(text), Some(gpp), None]],
        rules: &[NO_VENDOR, OTHER_VENDOR],
        cells: nothing(Tcf),
    });
}

#[test]
fn row_3_section_2_of_a_gpp_string_decides_where_it_is_in_force() {
    use ConsentSource::Gpp;
    let (gpp, text) = (gpp_string(), full_string());
    let gpp = gpp.as_str();
    let in_force = [
        None,
        Some(""),
        Some("2"),
        Some("7,2"),
        Some("2, 6"),
        Some("[2]"),
    ];
    check_row(&Row {
        said: in_force
            .into_iter()
            .flat_map(|sid| [None, Some("0"), Some("1")].map(|gdpr| [gdpr, None, Some(gpp), sid]))
            .chain([[Some("1"), Some(""), Some(gpp), Some("2")]])
            .collect(),
        rules: &[RULES],
        cells: full(Gpp),
    });
    let usa = vectors::named("GPP without section 2: usnat,usca").string;
    let one_short = gpp.rsplit_once('~').map(|(before, _)| before);
    let malformed = ["DBAA", "DBABMA", "DBABMA~", "x", &text].map(Some);
    check_row(&Row {
        said: ["7", "-1", "22"]
            .map(|sid| [None, None, Some(gpp), Some(sid)])
            .into_iter()
            .chain([[None, None, Some(usa.as_str()), Some("2")]])
            .chain(malformed.map(|gpp| [None, None, gpp, None]))
            .chain([[None, None, one_short, None]])
            .collect(),
        rules: &[RULES],
        cells: nothing(Gpp),
    });
    check_row(&Row {
        said: vec![[None, None, Some(gpp), None]],
        rules: &[NO_VENDOR, OTHER_VENDOR],
        cells: nothing(Gpp),
    });
}

#[test]
fn row_4_a_missing_string_is_not_consent_where_one_is_required() {
    check_row(&Row {
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
        cells: nothing(ConsentSource::Tcf),
    });
    check_row(&Row {
        said: vec![[Some("0"), Some(""), None, None]],
        rules: &[RULES],
        cells: nothing(ConsentSource::Tcf),
    });
    check_row(&Row {
        said: vec![
            [None, None, Some(""), None],
            [None, None, Some(""), Some("2")],
        ],
        rules: &[RULES, TRUSTING],
        cells: nothing(ConsentSource::Gpp),
    });
}

#[test]
fn row_4_the_eu_section_in_force_without_its_string_is_no_consent() {
    for in_force in [
        "2",
        "2,6",
        "7, 2",
        "[2]",
        "[2, 7]",
        "[7,02]",
        "+2",
        "",
        "[]",
        "2;7",
        "7_2",
        "7|2",
        "2.0",
        "\"2\"",
        "${GPP_SID}",
        "tcfeuv2",
        "7,",
        "[\"2\"]",
    ] {
        let signals = Signals {
            gpp_sid: Some(in_force.into()),
            ..Signals::default()
        };
        let decided = decide(&signals, &RULES, Kind::Impression, &Strings::default());
        assert_eq!(decided, (Permit::NONE, ConsentSource::Gpp), "{in_force}");
    }
}

#[test]
fn row_5_without_signals_the_default_holds_and_gdpr_0_changes_nothing() {
    check_row(&Row {
        said: vec![
            [None; 4],
            [None, None, None, Some("7")],
            [None, None, None, Some("[7, 8]")],
            [None, None, None, Some("-1")],
        ],
        rules: &[RULES, TRUSTING, NO_VENDOR],
        cells: unasked(DEFAULT, ConsentSource::Default),
    });
    check_row(&Row {
        said: vec![[Some("0"), None, None, None]],
        rules: &[RULES, NO_VENDOR],
        cells: unasked(DEFAULT, ConsentSource::Default),
    });
}

fn check_cells(said: [Option<&str>; 4], rules: &PermitRules, cells: [(Permit, ConsentSource); 4]) {
    let [gdpr, tcf, gpp, gpp_sid] = said.map(|value| value.map(Cow::Borrowed));
    let columns = [
        (false, None),
        (true, None),
        (false, Some(CHOICE)),
        (true, Some(CHOICE)),
    ];
    for ((gpc, choice), cell) in columns.into_iter().zip(cells) {
        let signals = Signals {
            gdpr: gdpr.clone(),
            tcf: tcf.clone(),
            gpp: gpp.clone(),
            gpp_sid: gpp_sid.clone(),
            gpc,
            choice,
            is_unclear: false,
        };
        let decided = decide(&signals, rules, Kind::Impression, &Strings::default());
        assert_eq!(decided, cell, "{signals:?} {rules:?}");
        // Whatever else is said, what is not understood comes first.
        let signals = Signals {
            is_unclear: true,
            ..signals
        };
        let decided = decide(&signals, rules, Kind::Impression, &Strings::default());
        assert_eq!(decided, (Permit::NONE, ConsentSource::Unclear));
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
            choice: Some(parse_choice(choice.as_bytes())),
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
fn a_string_that_fills_its_parameter_may_have_been_cut_and_is_not_consent() {
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

/// A hit with a value in every field, of which the ad's alone need no permit.
fn telltale(kind: Kind) -> Hit<'static> {
    let ad = ["partner", "campaign", "creative", "placement", "publisher"];
    Hit {
        received_at: UnixMicros(1_700_000_012_345_678),
        kind,
        site: Cow::Borrowed("site"),
        visitor: Some(VisitorId(*b"telltaletelltale")),
        flags: Flags::NEW_VISITOR.with(Flags::PREVIEW),
        consent_source: ConsentSource::Tcf,
        ..Hit::sample(|field| match field {
            "params" => r#"{"telltale":1}"#.to_owned(),
            field if ad.contains(&field) => "ad".to_owned(),
            _ => "telltale".to_owned(),
        })
    }
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
        for kind in Kind::ALL.into_iter().filter(|kind| !kind.is_instruction()) {
            let mut hit = telltale(kind);
            hit.permit = permit;
            let before = hit.clone();
            strip(&mut hit);
            let expected = if !permit.allows(Permit::MEASURE) {
                let ad = || Cow::Borrowed("ad");
                Hit {
                    permit,
                    consent_source: ConsentSource::Tcf,
                    visitor: before.visitor.filter(|_| permit.allows(Permit::STORE)),
                    flags: Flags::PREVIEW,
                    partner: ad(),
                    campaign: ad(),
                    creative: ad(),
                    placement: ad(),
                    publisher: ad(),
                    ..Hit::new(UnixMicros(1_699_999_980_000_000), kind, "site")
                }
            } else if kind == Kind::Sync
                && permit.allows(Permit::STORE)
                && !permit.allows(Permit::MATCH)
            {
                Hit {
                    partner_uid: Cow::Borrowed(""),
                    ..before
                }
            } else if !permit.allows(Permit::STORE) {
                Hit {
                    visitor: None,
                    partner_uid: Cow::Borrowed(""),
                    maid: Cow::Borrowed(""),
                    device_id: Cow::Borrowed(""),
                    click_id: Cow::Borrowed(""),
                    session_id: Cow::Borrowed(""),
                    user_key: None,
                    older_user_keys: Vec::new(),
                    ..before
                }
            } else {
                before
            };
            assert_eq!(hit, expected, "{permit}");
            let mut bytes = Vec::new();
            hit.encode(&mut bytes);
            // Of a count, what a visitor permits is noted under their ID.
            let is_noted = permit.allows(Permit::STORE);
            let told = String::from_utf8_lossy(&bytes).contains("telltale");
            assert_eq!(told, is_noted || permit.allows(Permit::MEASURE), "{permit}");
        }
    }
}

#[test]
fn an_instruction_keeps_site_time_and_visitor_and_permits_nothing() {
    for kind in [Kind::Withdrawal, Kind::Erasure] {
        let mut hit = telltale(kind);
        strip(&mut hit);
        let expected = Hit {
            visitor: Some(VisitorId(*b"telltaletelltale")),
            ..Hit::new(UnixMicros(1_700_000_012_345_678), kind, "site")
        };
        assert_eq!(hit, expected);
    }
}

#[test]
fn without_store_no_page_url_or_referrer_names_the_click_that_led_there() {
    for (before, after) in [
        ("https://shop.example/", "https://shop.example/"),
        (
            "https://shop.example/?a=1&b=2#c",
            "https://shop.example/?a=1&b=2#c",
        ),
        ("https://shop.example/?avclid=X", "https://shop.example/"),
        (
            "https://shop.example/?a=1&avclid=X&b=2#c",
            "https://shop.example/?a=1&b=2#c",
        ),
        (
            "https://shop.example/?%61vclid=X&click_id=Y#c",
            "https://shop.example/#c",
        ),
        (
            "https://shop.example/?notavclid=X",
            "https://shop.example/?notavclid=X",
        ),
    ] {
        let with = |permit| {
            let mut hit = Hit::new(UnixMicros(0), Kind::PageView, "shop");
            hit.permit = permit;
            hit.page_url = before.into();
            hit.referrer = before.into();
            strip(&mut hit);
            hit
        };
        let hit = with(Permit::MEASURE);
        assert_eq!((&*hit.page_url, &*hit.referrer), (after, after));
        assert_eq!(with(DEFAULT).page_url, before);
    }
}

#[test]
fn what_needs_two_rules_gets_what_both_allow_whatever_is_said() {
    let empty = PermitRules {
        default_permit: Permit::NONE,
        ..RULES
    };
    let all = [RULES, TRUSTING, NO_VENDOR, OTHER_VENDOR, empty];
    let (full, store, gpp) = (full_string(), store_string(), gpp_string());
    let said = [
        [None; 4],
        [Some("0"), None, None, None],
        [Some("1"), None, None, None],
        [None, Some(&*full), None, None],
        [Some("1"), Some(&*store), None, None],
        [None, None, Some(&*gpp), Some("2")],
    ];
    let strings = Strings::default();
    for [gdpr, tcf, gpp, gpp_sid] in said {
        for (gpc, choice) in [(false, None), (true, None), (false, Some(CHOICE))] {
            let signals = Signals {
                gdpr: gdpr.map(Cow::Borrowed),
                tcf: tcf.map(Cow::Borrowed),
                gpp: gpp.map(Cow::Borrowed),
                gpp_sid: gpp_sid.map(Cow::Borrowed),
                gpc,
                choice,
                ..Signals::default()
            };
            for (site, partner) in all
                .iter()
                .flat_map(|one| all.iter().map(move |two| (one, two)))
            {
                let of = |rules| decide(&signals, rules, Kind::PageView, &strings);
                let both = decide_by_both(&signals, (site, partner), Kind::PageView, &strings);
                assert_eq!(both.0, of(site).0.and(of(partner).0), "{signals:?}");
                assert!([of(site).1, of(partner).1].contains(&both.1), "{signals:?}");
                if both.0 == of(partner).0 {
                    assert_eq!(both.1, of(partner).1);
                }
            }
        }
    }
}
