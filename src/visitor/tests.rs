use super::*;
use crate::request::CookieNames;

/// The host that is asked, and the domain of its cookies.
const HOST: &str = "px.shop.example";
const DOMAIN: Option<&str> = Some("shop.example");
const NOW: UnixMicros = UnixMicros(1_800_000_000_000_000);

fn ring(keys: &[(u8, &[u8])]) -> CookieKeyring {
    CookieKeyring::new(keys.iter().copied(), COOKIE_AGE_SECONDS)
}

fn later(seconds: i64) -> UnixMicros {
    UnixMicros(NOW.0 + seconds * 1_000_000)
}

#[test]
fn a_signed_value_verifies_under_old_and_new_keys() {
    let old = ring(&[(1, &[1; 32])]);
    let both = ring(&[(2, &[2; 32]), (1, &[1; 32])]);
    let visitor = VisitorId([9; 16]);
    let value = old.sign(visitor, NOW).expect("a key signs");
    assert_eq!(value.len(), 44);
    assert_eq!(both.verify(&value, NOW), Some(visitor));
    assert_eq!(ring(&[(1, &[3; 32])]).verify(&value, NOW), None);
    assert_eq!(
        old.verify(&both.sign(visitor, NOW).expect("a key signs"), NOW),
        None
    );
}

/// Makes a value of another age for each ID, bound to the domain.
fn bound(ring: &CookieKeyring, id: u8, seconds: i64) -> String {
    let value = ring
        .at(HOST)
        .sign(VisitorId([id; 16]), DOMAIN, later(seconds));
    value.expect("a key signs")
}

/// Chooses among cookies with these names and values. Returns whose the chosen one is, whether it
/// is to be moved, and whether it is one of several that are bound to nothing.
fn choose(ring: &CookieKeyring, names: CookieNames<'_>, line: &str) -> Option<(u8, bool, bool)> {
    let mut headers = crate::request::Headers::default();
    headers.read_one(b"cookie", line.as_bytes());
    let chosen = ring.at(HOST).choose(headers.find_cookies(names), NOW)?;
    let id = chosen.proved.visitor.0[0];
    Some((id, chosen.is_to_be_moved, chosen.is_one_of_unbound))
}

/// Joins cookies of one name.
fn line(name: &str, values: &[&str]) -> String {
    let each = values.iter().map(|value| format!("{name}={value}"));
    each.collect::<Vec<_>>().join("; ")
}

#[test]
fn of_several_ids_the_oldest_that_verifies_holds_in_any_order() {
    let ring = ring(&[(1, &[1; 32])]);
    let unbound = |id: u8, seconds: i64| {
        let value = ring.sign(VisitorId([id; 16]), later(seconds));
        value.expect("a key signs")
    };
    let (old, new, as_old) = (unbound(1, -9), unbound(2, -5), unbound(3, -9));
    let (bound_old, bound_new) = (bound(&ring, 5, -19), bound(&ring, 6, -1));
    let expired = unbound(4, -COOKIE_AGE_SECONDS);
    let forged = old.replace('A', "B");
    let choose = |values: &[&str]| {
        let chosen = choose(&ring, "avid".into(), &line("avid", values));
        chosen.map(|(id, _, is_one_of_unbound)| (id, is_one_of_unbound))
    };
    assert_eq!(choose(&[]), None);
    assert_eq!(choose(&[&forged, ""]), None);
    // Whoever sees that it is expired counts the hit alone.
    assert_eq!(choose(&[&forged, &expired, ""]), Some((4, false)));
    assert_eq!(choose(&[&forged, &new, &expired]), Some((2, false)));
    assert_eq!(choose(&[&new, &new]), Some((2, false)));
    for values in [[&new, &old, &as_old], [&as_old, &old, &new]] {
        assert_eq!(choose(&values.map(String::as_str)), Some((1, true)));
    }
    // What is planted beside an older ID changes nothing and ends nothing.
    for values in [
        [&old, &bound_new, &expired],
        [&bound_new, &expired, &old],
        [&expired, &old, &bound_new],
        [&forged, &bound_new, &old],
    ] {
        assert_eq!(choose(&values.map(String::as_str)), Some((1, false)));
    }
    for values in [[&bound_old, &old, &new], [&new, &old, &bound_old]] {
        assert_eq!(choose(&values.map(String::as_str)), Some((5, false)));
    }
}

#[test]
fn a_value_is_bound_to_its_domain_or_host() {
    let ring = ring(&[(1, &[1; 32])]);
    let visitor = VisitorId([9; 16]);
    let sign = |host: &str, domain| {
        let value = ring.at(host).sign(visitor, domain, NOW);
        value.expect("a key signs")
    };
    let proves = |host: &str, value: &str| ring.at(host).read(value, NOW).is_some();
    let of_domain = sign(HOST, DOMAIN);
    assert_eq!(of_domain.len(), 48);
    assert_eq!(of_domain, sign("other.shop.example", DOMAIN));
    for host in ["shop.example", "a.b.shop.example", "PX.Shop.Example"] {
        assert!(proves(host, &of_domain), "{host}");
    }
    for host in [
        "example",
        "evilshop.example",
        "shop.example.",
        "shop.example.evil",
        "",
    ] {
        assert!(!proves(host, &of_domain), "{host}");
    }
    let of_host = sign(HOST, None);
    assert!(proves("Px.shop.example", &of_host));
    for host in [
        "other.shop.example",
        "shop.example",
        "a.px.shop.example",
        "example",
        "",
    ] {
        assert!(!proves(host, &of_host), "{host}");
    }
    // The same name as a host and as a domain.
    assert_ne!(sign("shop.example", None), sign("shop.example", DOMAIN));
    for host in ["127.0.0.1", "[::1]", "localhost"] {
        let value = sign(host, None);
        assert!(proves(host, &value) && !proves(HOST, &value), "{host}");
    }
    // What is bound to nothing proves its visitor everywhere, until it expires.
    let unbound = ring.sign(visitor, NOW).expect("a key signs");
    assert!(proves(HOST, &unbound) && proves("other.example", &unbound));
}

#[test]
fn a_name_that_vouches_outweighs_an_older_id_and_a_lookalike_does_not() {
    let ring = ring(&[(1, &[1; 32])]);
    let (old, new) = (bound(&ring, 1, -900), bound(&ring, 2, -5));
    for name in ["__Host-avid", "__Secure-avid"] {
        let names = CookieNames {
            name,
            former: Some("avid"),
        };
        for (line, chosen) in [
            (format!("avid={old}; {name}={new}"), (2, false, false)),
            (format!("{name}={new}; avid={old}"), (2, false, false)),
            (format!("avid={old}; avid={new}"), (1, true, false)),
            (format!("{name}={new}; {name}={old}"), (1, false, false)),
            (format!("a=b,{name}={old}; {name}={new}"), (2, false, false)),
            (format!("a=b,{name}={new}; avid={old}"), (1, true, false)),
            (
                format!("{}={old}; {name}={new}", name.to_uppercase()),
                (2, false, false),
            ),
        ] {
            assert_eq!(choose(&ring, names, &line), Some(chosen), "{line}");
        }
        let of_former = format!("avid={old}");
        assert_eq!(choose(&ring, name.into(), &of_former), None);
    }
    // Without a prefix the new name says no more than the former one, and nothing is ended for it.
    let names = CookieNames {
        name: "avid2",
        former: Some("avid"),
    };
    let planted = format!("avid2={new}; avid={old}");
    assert_eq!(choose(&ring, names, &planted), Some((1, false, false)));
    // One ID under both names has been moved already.
    let moved = format!("avid={old}; avid2={old}");
    assert_eq!(choose(&ring, names, &moved), Some((1, false, false)));
}

#[test]
fn all_ids_of_a_header_are_read_the_chosen_one_first() {
    let ring = ring(&[(1, &[1; 32])]);
    let values: Vec<String> = (0..=250_u8)
        .map(|id| bound(&ring, id, -i64::from(id)))
        .collect();
    let mut all: Vec<&str> = values.iter().map(String::as_str).collect();
    let expired = ring.sign(VisitorId([255; 16]), later(-COOKIE_AGE_SECONDS));
    let expired = expired.expect("a key signs");
    all.extend([&*expired, "forged", &values[7]]);
    for _ in 0..2 {
        all.reverse();
        let line = line("avid", &all);
        let mut headers = crate::request::Headers::default();
        headers.read_one(b"cookie", line.as_bytes());
        let read = ring
            .at(HOST)
            .read_all(headers.find_cookies("avid".into()), NOW);
        assert_eq!(read.first().map(|one| one.visitor.0[0]), Some(250));
        assert_eq!(read.len(), 252);
    }
}

#[test]
fn a_form_is_for_the_visitor_it_was_made_for_whichever_key_is_first() {
    let old = ring(&[(1, &[1; 32])]);
    let both = ring(&[(2, &[2; 32]), (1, &[1; 32])]);
    let visitor = VisitorId([9; 16]);
    let token = old.form_token(visitor).expect("a key signs");
    assert_eq!(token.len(), 16);
    assert!(old.is_form_token(visitor, &token) && both.is_form_token(visitor, &token));
    assert!(!both.is_form_token(VisitorId([8; 16]), &token));
    assert!(!ring(&[(1, &[3; 32])]).is_form_token(visitor, &token));
    for other in ["", "A", &token[..15], &token[4..], &format!("{token}AAAA")] {
        assert!(!both.is_form_token(visitor, other), "{other}");
    }
}

#[test]
fn a_value_expires_at_its_age_and_a_clock_that_went_back_makes_no_visitor_new() {
    let ring = ring(&[(1, &[1; 32])]);
    let value = ring.sign(VisitorId([9; 16]), NOW).expect("a key signs");
    assert!(ring.verify(&value, later(COOKIE_AGE_SECONDS - 1)).is_some());
    assert!(ring.verify(&value, later(COOKIE_AGE_SECONDS)).is_none());
    for seconds_back in [1, 300, 100 * 86_400, 1_800_000_000] {
        assert!(ring.verify(&value, later(-seconds_back)).is_some());
    }
}

#[test]
fn no_value_with_one_character_changed_is_accepted() {
    let ring = ring(&[(1, &[1; 32])]);
    let unbound = ring.sign(VisitorId([9; 16]), NOW).expect("a key signs");
    for value in [unbound, bound(&ring, 9, 0)] {
        for at in 0..value.len() {
            for other in "ABab09-_=".chars() {
                let mut forged = value.clone();
                forged.replace_range(at..=at, &other.to_string());
                assert!(
                    forged == value || ring.at(HOST).read(&forged, NOW).is_none(),
                    "{forged}"
                );
            }
        }
        assert_eq!(ring.at(HOST).read(&value[1..], NOW), None);
    }
    assert_eq!(ring.at(HOST).read("", NOW), None);
}

/// Numbers from a seed, by SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % limit as u64).expect("below a usize")
    }
}

/// Makes one forgery of signed values: of their bytes, of their text, or of several of them.
fn forge(random: &mut Random, signed: &[String], foreign: &[String]) -> String {
    let text = |random: &mut Random| signed[random.below(signed.len())].clone();
    let bytes = |text: &str| URL_SAFE_NO_PAD.decode(text).expect("base64");
    let value = text(random);
    match random.below(10) {
        0 | 1 => {
            let mut bytes = bytes(&value);
            for _ in 0..=random.below(4) {
                let at = random.below(bytes.len());
                bytes[at] ^= 1 << random.below(8);
            }
            URL_SAFE_NO_PAD.encode(bytes)
        }
        2 | 3 => {
            let (one, other) = (bytes(&value), bytes(&text(random)));
            let at = random.below(one.len().min(other.len()) + 1);
            URL_SAFE_NO_PAD.encode([&one[..at], &other[at..]].concat())
        }
        4 => {
            // Another key's ID, time, visitor or scope under this one's MAC.
            let (mut one, other) = (bytes(&value), bytes(&text(random)));
            let part = [0..1, 1..5, 5..21, 21..22, 21..33][random.below(5)].clone();
            one[part.clone()].copy_from_slice(&other[part]);
            URL_SAFE_NO_PAD.encode(one)
        }
        5 => value[..random.below(value.len())].to_owned(),
        6 => format!("{value}{}", &text(random)[..random.below(44)]),
        7 => {
            let characters = b"ABCabc019-_=+/%\" \t;,.\xc3";
            let mut changed = value.into_bytes();
            let at = random.below(changed.len());
            changed[at] = characters[random.below(characters.len())];
            String::from_utf8_lossy(&changed).into_owned()
        }
        8 => {
            let bytes = bytes(&value);
            match random.below(4) {
                0 => base64::engine::general_purpose::URL_SAFE.encode([&*bytes, &[0]].concat()),
                1 => base64::engine::general_purpose::STANDARD.encode(bytes),
                2 => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
                _ => value.to_ascii_lowercase(),
            }
        }
        _ => foreign[random.below(foreign.len())].clone(),
    }
}

#[test]
fn none_of_a_million_forgeries_is_accepted() {
    let mut random = Random(17);
    let visitors: Vec<VisitorId> = (0..64_u8).map(|at| VisitorId([at; 16])).collect();
    let ours = ring(&[(1, &[1; 32]), (2, &[2; 32])]);
    let second = ring(&[(2, &[2; 32])]);
    let stranger = ring(&[(1, &[3; 32])]);
    let sign = |ring: &CookieKeyring, at: usize| {
        let made_at = later(-i64::try_from(at).expect("small") * 1000);
        let value = if at.is_multiple_of(3) {
            ring.sign(visitors[at], made_at)
        } else {
            let domain = DOMAIN.filter(|_| at % 3 == 1);
            ring.at(HOST).sign(visitors[at], domain, made_at)
        };
        value.expect("a key signs")
    };
    // Each visitor once, under the one key or the other, bound to nothing, a domain or a host.
    let signed: Vec<String> = (0..64)
        .map(|at| sign(if at % 2 == 0 { &ours } else { &second }, at))
        .collect();
    let foreign: Vec<String> = (0..64).map(|at| sign(&stranger, at)).collect();
    let by_value: std::collections::HashMap<&str, VisitorId> = signed
        .iter()
        .map(String::as_str)
        .zip(visitors.iter().copied())
        .collect();
    let (mut forgeries, mut unchanged) = (0, 0);
    while forgeries < 1_000_000 {
        let value = forge(&mut random, &signed, &foreign);
        let believed = ours.at(HOST).read(&value, NOW).map(|proved| proved.visitor);
        // A splice of a value with itself is that value, and names the visitor it was signed
        // for.
        let known = by_value.get(value.as_str()).copied();
        assert_eq!(believed, known, "{value}");
        match known {
            Some(_) => unchanged += 1,
            None => forgeries += 1,
        }
    }
    eprintln!("{forgeries} forgeries, none accepted; {unchanged} more were not forgeries");
    assert_eq!(by_value.len(), 64);
}

#[test]
fn the_tag_and_the_documentation_give_the_age_of_a_cookie() {
    let max_age = format!(";max-age={COOKIE_AGE_SECONDS};");
    let days = format!("{COOKIE_DAYS} days");
    let days_max = format!("{COOKIE_DAYS_MAX} days");
    for (text, expected) in [
        (include_str!("../../assets/tag.js"), &max_age),
        (include_str!("../../docs/tag.md"), &days),
        (include_str!("../../docs/consent.md"), &days),
        (include_str!("../../docs/consent.md"), &days_max),
    ] {
        assert!(text.contains(expected), "{expected}");
    }
}

#[test]
fn a_handle_names_one_device_on_the_page_of_one_visitor_and_tells_nothing_of_it() {
    let old = ring(&[(1, &[1; 32])]);
    let both = ring(&[(2, &[2; 32]), (1, &[1; 32])]);
    let (visitor, node) = (VisitorId([9; 16]), [7; 16]);
    let handle = old.device_handle(visitor, node).expect("a key signs");
    assert_eq!(handle.len(), 16);
    assert!(both.is_device_handle(visitor, node, &handle));
    assert!(!both.is_device_handle(visitor, [8; 16], &handle));
    assert!(!both.is_device_handle(VisitorId(node), visitor.0, &handle));
    assert!(!both.is_device_handle(VisitorId([8; 16]), node, &handle));
    assert!(!ring(&[(1, &[3; 32])]).is_device_handle(visitor, node, &handle));
    let token = old.form_token(visitor).expect("a key signs");
    for other in ["", "A", &handle[..15], &token, &format!("{handle}AAAA")] {
        assert!(!both.is_device_handle(visitor, node, other), "{other}");
    }
    assert!(!both.is_form_token(visitor, &handle));
}
