//! Where a browser keeps a cookie, and how it is set and ended there.
//!
//! A browser keeps a cookie by its name, its domain and its jar, and sends every one that fits,
//! several of one name among them. A cookie of an old domain outlives a change of `cookie_domain`.
//! So whatever is to be the only one of its name is set together with the ends of all others
//! ([`Reach::replace`]). The ends come first: a browser that does not know `Partitioned` takes the
//! end of a partitioned cookie for that of the cookie that was just set.
//!
//! A cookie whose name has a prefix ([`Prefix`]) is set and ended over https alone, and one with
//! `__Host-` on no domain: browsers refuse anything else.

use std::net::Ipv4Addr;

use crate::request::{CookieNames, Prefix};

/// For how many domains a cookie is ended: a host has more labels than that only if somebody plays
/// with them.
const DOMAINS_MAX: usize = 8;
/// What a cookie's header has at most beside its name, value and domain.
const ATTRIBUTES_BYTES_MAX: usize = 128;

/// Whose cookie it is, as the browser sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Party<'a> {
    /// The site's own: on its domain or, without one, on the collector's host alone.
    First {
        /// `cookie_domain`, where the collector's host lies in it.
        domain: Option<&'a str>,
    },
    /// A third party's, in another site's page: one cookie for each embedding site (CHIPS).
    Third,
}

impl<'a> Party<'a> {
    /// Returns the domain that the cookie is for; `None` for one of the host alone.
    #[must_use]
    pub fn domain(self) -> Option<&'a str> {
        CookiePlace::from(self).domain
    }
}

/// Which of the collector's cookies it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CookieKind {
    /// The visitor's ID, which scripts cannot read.
    Visitor,
    /// The visitor's choice, which the page's scripts may read.
    Choice,
}

/// Which cookies a browser keeps together.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Jar {
    /// Those for a site's own pages.
    Own,
    /// Those for the pages of all sites, where browsers without partitions keep a third party's.
    Shared,
    /// Those for the pages of the one site that embeds the collector.
    Partition,
}

/// Where one cookie is kept; without a domain it is the host's alone.
#[derive(Clone, Copy, PartialEq, Eq)]
struct CookiePlace<'a> {
    domain: Option<&'a str>,
    jar: Jar,
}

impl<'a> From<Party<'a>> for CookiePlace<'a> {
    fn from(party: Party<'a>) -> CookiePlace<'a> {
        match party {
            Party::First { domain } => CookiePlace {
                domain,
                jar: Jar::Own,
            },
            Party::Third => CookiePlace {
                domain: None,
                jar: Jar::Partition,
            },
        }
    }
}

/// What decides where the cookies of a request can be kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reach<'a> {
    /// The host that was asked, in lower case and without its port.
    pub host: &'a str,
    /// Whose cookies they are.
    pub party: Party<'a>,
    /// Whether the request came by https.
    pub secure: bool,
}

impl<'a> Reach<'a> {
    /// Returns the `Set-Cookie` headers that set a cookie and end every other one of its names that
    /// the host could be sent; none where a browser would not keep it.
    #[must_use]
    pub(crate) fn replace(
        &self,
        kind: CookieKind,
        names: CookieNames<'_>,
        value: &str,
        age_seconds: i64,
    ) -> Vec<String> {
        let place = CookiePlace::from(self.party);
        let set = write(kind, (names.name, value), place, self.secure, age_seconds);
        let Some(set) = set else {
            return Vec::new();
        };
        let others = self.places(kind).filter(|other| *other != place);
        let mut cookies = self.end_former(kind, names);
        cookies.extend(self.end_at(kind, names.name, others));
        cookies.push(set);
        cookies
    }

    /// Returns the `Set-Cookie` headers that end every cookie of these names that the host could be
    /// sent.
    #[must_use]
    pub(crate) fn end(&self, kind: CookieKind, names: CookieNames<'_>) -> Vec<String> {
        let mut cookies = self.end_former(kind, names);
        cookies.extend(self.end_at(kind, names.name, self.places(kind)));
        cookies
    }

    fn end_former(&self, kind: CookieKind, names: CookieNames<'_>) -> Vec<String> {
        let former = names.former.into_iter();
        former
            .flat_map(|name| self.end_at(kind, name, self.places(kind)))
            .collect()
    }

    fn end_at(
        &self,
        kind: CookieKind,
        name: &str,
        places: impl Iterator<Item = CookiePlace<'a>>,
    ) -> impl Iterator<Item = String> {
        places.filter_map(move |place| write(kind, (name, ""), place, self.secure, 0))
    }

    /// Returns where a cookie of that kind may be kept. The choice that a page of another site
    /// makes holds there, and must not end the one that was made on the site itself.
    fn places(&self, kind: CookieKind) -> impl Iterator<Item = CookiePlace<'a>> + use<'a> {
        let configured = self.party.domain();
        let jars: &[Jar] = match (self.party, kind) {
            (Party::First { .. }, _) => &[Jar::Own, Jar::Partition],
            (Party::Third, CookieKind::Visitor) => &[Jar::Partition, Jar::Shared],
            (Party::Third, CookieKind::Choice) => &[Jar::Partition],
        };
        let host = self.host;
        let further = configured.filter(move |known| domains(host).all(|domain| domain != *known));
        let domains = further.into_iter().chain(domains(host)).map(Some);
        let domains: Vec<_> = domains.chain([None]).collect();
        jars.iter().flat_map(move |jar| {
            let place = move |domain| CookiePlace { domain, jar: *jar };
            domains.clone().into_iter().map(place)
        })
    }
}

/// Returns the domains for which a host may set a cookie, from its registrable domain to itself.
fn domains(host: &str) -> impl Iterator<Item = &str> {
    let is_address = host.contains(':') || host.parse::<Ipv4Addr>().is_ok();
    let registrable = psl::domain_str(host).filter(|_| !is_address);
    let longer = move |domain: &&str| {
        let front = host.len().checked_sub(domain.len() + 1)?;
        let before = host.get(..front)?;
        host.get(before.rfind('.').map_or(0, |dot| dot + 1)..)
    };
    std::iter::successors(registrable, longer).take(DOMAINS_MAX)
}

/// Returns the `Set-Cookie` header of the visitor's cookie; `None` where a browser would not keep
/// it: a third party's cookie needs https, and so does one whose name has a prefix.
#[must_use]
pub fn set_cookie(
    name: &str,
    value: &str,
    party: Party<'_>,
    secure: bool,
    age_seconds: i64,
) -> Option<String> {
    let visitor = CookieKind::Visitor;
    write(visitor, (name, value), party.into(), secure, age_seconds)
}

fn write(
    kind: CookieKind,
    (name, value): (&str, &str),
    place: CookiePlace<'_>,
    secure: bool,
    age_seconds: i64,
) -> Option<String> {
    let prefix = Prefix::of(name);
    let needs_https = place.jar != Jar::Own || prefix != Prefix::None;
    if needs_https && !secure || prefix == Prefix::Host && place.domain.is_some() {
        return None;
    }
    let texts_bytes = name.len() + value.len() + place.domain.map_or(0, str::len);
    let mut cookie = String::with_capacity(texts_bytes + ATTRIBUTES_BYTES_MAX);
    for part in [name, "=", value, "; Path=/; Max-Age="] {
        cookie.push_str(part);
    }
    cookie.push_str(&age_seconds.to_string());
    if kind == CookieKind::Visitor {
        cookie.push_str("; HttpOnly");
    }
    if let Some(domain) = place.domain {
        cookie.push_str("; Domain=");
        cookie.push_str(domain);
    }
    cookie.push_str(match place.jar {
        Jar::Own => "; SameSite=Lax",
        Jar::Shared | Jar::Partition => "; SameSite=None",
    });
    if secure {
        cookie.push_str("; Secure");
    }
    if place.jar == Jar::Partition {
        cookie.push_str("; Partitioned");
    }
    Some(cookie)
}

/// Checks whether `host` is `domain` or a name below it.
#[must_use]
pub(crate) fn lies_within(host: &str, domain: &str) -> bool {
    let Some(front) = host.len().checked_sub(domain.len()) else {
        return false;
    };
    let (sub, end) = host.split_at_checked(front).unwrap_or_default();
    end.eq_ignore_ascii_case(domain) && (sub.is_empty() || sub.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_fits_its_party() {
        let cookie = |party, secure| set_cookie("avid", "v", party, secure, 60);
        let own = Party::First {
            domain: Some("telenor.se"),
        };
        assert_eq!(
            cookie(own, true).as_deref(),
            Some("avid=v; Path=/; Max-Age=60; HttpOnly; Domain=telenor.se; SameSite=Lax; Secure")
        );
        assert_eq!(
            cookie(Party::First { domain: None }, false).as_deref(),
            Some("avid=v; Path=/; Max-Age=60; HttpOnly; SameSite=Lax")
        );
        assert_eq!(
            cookie(Party::Third, true).as_deref(),
            Some("avid=v; Path=/; Max-Age=60; HttpOnly; SameSite=None; Secure; Partitioned")
        );
        assert_eq!(cookie(Party::Third, false), None);
    }

    #[test]
    fn a_host_lies_within_its_own_domain_only() {
        assert!(lies_within("px.telenor.se", "telenor.se"));
        assert!(lies_within("TELENOR.se", "telenor.se"));
        assert!(!lies_within("eviltelenor.se", "telenor.se"));
        assert!(!lies_within("telenor.se.evil.example", "telenor.se"));
        assert!(!lies_within("se", "telenor.se"));
    }

    #[test]
    fn the_domains_of_a_host_end_at_its_registrable_one() {
        let many = format!("{}telenor.se", "a.".repeat(40));
        for (host, expected) in [
            ("telenor.se", &["telenor.se"][..]),
            ("px.telenor.se", &["telenor.se", "px.telenor.se"]),
            (
                "a.px.shop.co.uk",
                &["shop.co.uk", "px.shop.co.uk", "a.px.shop.co.uk"],
            ),
            ("px.open.example", &["open.example", "px.open.example"]),
            ("me.github.io", &["me.github.io"]),
            ("github.io", &[]),
            ("co.uk", &[]),
            ("se", &[]),
            ("localhost", &[]),
            ("127.0.0.1", &[]),
            ("[::1]", &[]),
            ("", &[]),
        ] {
            assert_eq!(domains(host).collect::<Vec<_>>(), expected, "{host}");
        }
        let domains: Vec<&str> = domains(&many).collect();
        assert_eq!(domains.len(), DOMAINS_MAX);
        assert!(domains.iter().all(|domain| lies_within(&many, domain)));
    }

    fn reach(host: &'static str, party: Party<'static>, secure: bool) -> Reach<'static> {
        Reach {
            host,
            party,
            secure,
        }
    }

    #[test]
    fn a_cookie_that_is_set_ends_every_other_one_of_its_name() {
        let domain = Some("telenor.se");
        let own = reach("px.telenor.se", Party::First { domain }, true);
        let (lax, partition) = ("SameSite=Lax; Secure", "SameSite=None; Secure; Partitioned");
        assert_eq!(
            own.replace(CookieKind::Choice, "c".into(), "none", 60),
            [
                format!("c=; Path=/; Max-Age=0; Domain=px.telenor.se; {lax}"),
                format!("c=; Path=/; Max-Age=0; {lax}"),
                format!("c=; Path=/; Max-Age=0; Domain=telenor.se; {partition}"),
                format!("c=; Path=/; Max-Age=0; Domain=px.telenor.se; {partition}"),
                format!("c=; Path=/; Max-Age=0; {partition}"),
                format!("c=none; Path=/; Max-Age=60; Domain=telenor.se; {lax}"),
            ]
        );
        // The domain is no longer configured, or is another one.
        for domain in [None, Some("px.telenor.se")] {
            let own = reach("px.telenor.se", Party::First { domain }, true);
            let cookies = own.replace(CookieKind::Choice, "c".into(), "none", 60);
            assert_eq!(cookies.len(), 6);
            let former = format!("c=; Path=/; Max-Age=0; Domain=telenor.se; {lax}");
            assert!(cookies.contains(&former), "{cookies:?}");
            assert!(
                cookies
                    .last()
                    .is_some_and(|last| last.starts_with("c=none"))
            );
        }
    }

    #[test]
    fn over_http_and_on_an_address_there_are_fewer_places() {
        let none = Party::First { domain: None };
        let plain = reach("px.telenor.se", none, false).end(CookieKind::Choice, "c".into());
        assert_eq!(
            plain,
            [
                "c=; Path=/; Max-Age=0; Domain=telenor.se; SameSite=Lax",
                "c=; Path=/; Max-Age=0; Domain=px.telenor.se; SameSite=Lax",
                "c=; Path=/; Max-Age=0; SameSite=Lax",
            ]
        );
        let address = reach("127.0.0.1", none, false);
        assert_eq!(
            address.replace(CookieKind::Choice, "c".into(), "none", 60),
            ["c=none; Path=/; Max-Age=60; SameSite=Lax"]
        );
        let third = reach("px.telenor.se", Party::Third, false);
        assert!(third.end(CookieKind::Visitor, "v".into()).is_empty());
        assert!(
            third
                .replace(CookieKind::Choice, "c".into(), "none", 60)
                .is_empty()
        );
    }

    #[test]
    fn in_a_page_of_another_site_the_choice_of_the_site_itself_stays() {
        let third = reach("px.telenor.se", Party::Third, true);
        let choice = third.replace(CookieKind::Choice, "c".into(), "store", 60);
        assert_eq!(choice.len(), 3);
        assert!(
            choice
                .iter()
                .all(|cookie| cookie.ends_with("; Partitioned"))
        );
        let visitor = third.end(CookieKind::Visitor, "v".into());
        let shared = visitor
            .iter()
            .filter(|cookie| cookie.ends_with("SameSite=None; Secure"));
        assert_eq!((visitor.len(), shared.count()), (6, 3));
    }

    #[test]
    fn a_name_with_a_prefix_is_for_https_and_a_host_name_for_no_domain() {
        let alone = Party::First { domain: None };
        let domain = Party::First {
            domain: Some("telenor.se"),
        };
        let cookie = |name, party, secure| set_cookie(name, "v", party, secure, 60);
        for name in ["__Host-a", "__Secure-a"] {
            for party in [alone, domain, Party::Third] {
                assert_eq!(cookie(name, party, false), None, "{name} {party:?}");
            }
            assert_eq!(
                cookie(name, alone, true),
                Some(format!(
                    "{name}=v; Path=/; Max-Age=60; HttpOnly; SameSite=Lax; Secure"
                ))
            );
            assert!(cookie(name, Party::Third, true).is_some());
        }
        assert_eq!(cookie("__Host-a", domain, true), None);
        assert!(cookie("__Secure-a", domain, true).is_some());
        for end in reach("px.telenor.se", alone, true).end(CookieKind::Visitor, "__Host-a".into()) {
            assert!(!end.contains("Domain="), "{end}");
        }
    }

    #[test]
    fn a_renamed_cookie_is_ended_under_its_former_name_wherever_it_may_be() {
        let none = Party::First { domain: None };
        let own = reach("px.telenor.se", none, true);
        let names = CookieNames {
            name: "__Host-a",
            former: Some("a"),
        };
        let cookies = own.replace(CookieKind::Visitor, names, "v", 60);
        let ended = own.end(CookieKind::Visitor, "a".into());
        assert_eq!(ended.len(), 6);
        assert_eq!(cookies.get(..6), Some(&ended[..]));
        assert_eq!(
            cookies.len(),
            8,
            "and the host's own partition: {cookies:?}"
        );
        assert!(cookies[7].starts_with("__Host-a=v;"));
        assert_eq!(own.end(CookieKind::Visitor, names).len(), 8);
    }
}
