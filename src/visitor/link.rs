//! The token by which a visitor is known again on another site: sealed where a link is followed,
//! opened where it leads. Pure: entropy and time are passed in.
//!
//! 49 bytes, in base64url without padding (66 characters):
//!
//! | bytes | hold |
//! | --- | --- |
//! | 0 | the key's ID |
//! | 1..13 | a nonce of 96 random bits, by which a second use is known |
//! | 13..49 | AES-256-GCM-SIV of the visitor's ID (16 bytes) and the second since 1970 at which it was sealed (u32, big-endian) |
//!
//! The key is HMAC-SHA-256 of `avtryck link 1` under the secret of the visitor cookie, so only
//! collectors with the same `cookie.keys` open it: neither page, nor the visitor, nor a log of
//! addresses learns an ID from it, and nobody else can make one.
//!
//! What it is bound to ([`LinkScope`]) is authenticated beside it. A token on another host, from
//! another page or in another browser is as good as a forged one, and so is one that is 60 seconds
//! old. So nobody can plant their own visitor by sending somebody else a link: the browser of the
//! one who follows it says itself which page it came from.

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::clock::UnixMicros;
use crate::hit::VisitorId;
use crate::keys::CookieKeyring;

/// How long a token is good for, in seconds.
pub(crate) const LINK_SECONDS_MAX: i64 = 60;

/// The length of a token, in bytes.
const TOKEN_BYTES: usize = 1 + NONCE_LEN + ID_BYTES + TIME_BYTES + 16;
const ID_BYTES: usize = 16;
const TIME_BYTES: usize = 4;

/// What a token is bound to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinkScope<'a> {
    /// The origin of the page with the link.
    pub from: &'a str,
    /// The host that it leads to, with its port if that is not its scheme's own.
    pub to: &'a str,
    /// The browser, as `User-Agent` has it.
    pub user_agent: &'a [u8],
}

/// What a token says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OpenedLink {
    /// The visitor of the page with the link.
    pub visitor: VisitorId,
    /// When it was sealed, to the second.
    pub sealed_at: UnixMicros,
    /// What no other token has.
    pub nonce: [u8; NONCE_LEN],
}

impl LinkScope<'_> {
    /// Returns what is authenticated. Neither an origin nor a host holds a line feed.
    fn join_scope(&self) -> Vec<u8> {
        [self.from.as_bytes(), self.to.as_bytes(), self.user_agent].join(&b'\n')
    }
}

impl CookieKeyring {
    /// Returns a token for a visitor; `None` without a key.
    #[must_use]
    pub(crate) fn seal_link(
        &self,
        visitor: VisitorId,
        scope: &LinkScope<'_>,
        nonce: [u8; NONCE_LEN],
        now: UnixMicros,
    ) -> Option<String> {
        let (id, key) = self.first_for_links()?;
        let mut sealed = visitor.0.to_vec();
        sealed.extend(u32::try_from(now.seconds()).ok()?.to_be_bytes());
        let aad = Aad::from(scope.join_scope());
        let of_key = Nonce::assume_unique_for_key(nonce);
        read_key(&key)?
            .seal_in_place_append_tag(of_key, aad, &mut sealed)
            .ok()?;
        let token = [&[id][..], &nonce, &sealed].concat();
        Some(URL_SAFE_NO_PAD.encode(token))
    }

    /// Opens a token that was sealed for that scope and is good at `now`; `None` for any other.
    #[must_use]
    pub(crate) fn open_link(
        &self,
        token: &str,
        scope: &LinkScope<'_>,
        now: UnixMicros,
    ) -> Option<OpenedLink> {
        let mut bytes = [0; TOKEN_BYTES];
        let length = URL_SAFE_NO_PAD.decode_slice(token, &mut bytes).ok()?;
        let (id, rest) = bytes.get_mut(..length)?.split_first_mut()?;
        let (nonce, sealed) = rest.split_first_chunk_mut::<NONCE_LEN>()?;
        let key = self.find_for_links(*id)?;
        let aad = Aad::from(scope.join_scope());
        let of_key = Nonce::assume_unique_for_key(*nonce);
        let opened = read_key(&key)?.open_in_place(of_key, aad, sealed).ok()?;
        let (visitor, time) = opened.split_first_chunk::<ID_BYTES>()?;
        let sealed_at = i64::from(u32::from_be_bytes(time.try_into().ok()?));
        // The clock of the collector that sealed it may be ahead of this one.
        let is_young = (now.seconds() - sealed_at).abs() < LINK_SECONDS_MAX;
        is_young.then_some(OpenedLink {
            visitor: VisitorId(*visitor),
            sealed_at: UnixMicros(sealed_at * 1_000_000),
            nonce: *nonce,
        })
    }
}

fn read_key(key: &[u8; 32]) -> Option<LessSafeKey> {
    UnboundKey::new(&AES_256_GCM_SIV, key)
        .ok()
        .map(LessSafeKey::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMicros = UnixMicros(1_700_000_000_000_000);
    const VISITOR: VisitorId = VisitorId(*b"visitor of shop.");
    const SCOPE: LinkScope<'_> = LinkScope {
        from: "https://www.shop.example",
        to: "www.news.example",
        user_agent: b"Mozilla/5.0",
    };

    fn keyring(secret: &[u8]) -> CookieKeyring {
        CookieKeyring::new([(3, secret)], 1)
    }

    fn after(seconds: i64) -> UnixMicros {
        UnixMicros(NOW.0 + seconds * 1_000_000)
    }

    #[test]
    fn a_token_is_opened_for_its_page_host_and_browser_within_a_minute() {
        let keyring = keyring(&[7; 32]);
        let token = keyring.seal_link(VISITOR, &SCOPE, [9; 12], NOW).unwrap();
        assert_eq!(token.len(), 66);
        let opened = OpenedLink {
            visitor: VISITOR,
            sealed_at: NOW,
            nonce: [9; 12],
        };
        for (seconds, is_good) in [
            (0, true),
            (59, true),
            (60, false),
            (-59, true),
            (-60, false),
        ] {
            let found = keyring.open_link(&token, &SCOPE, after(seconds));
            assert_eq!(found, is_good.then_some(opened), "after {seconds} s");
        }
        for scope in [
            LinkScope {
                from: "https://evil.example",
                ..SCOPE
            },
            LinkScope { from: "", ..SCOPE },
            LinkScope {
                to: "evil.example",
                ..SCOPE
            },
            LinkScope {
                to: "www.news.example:8443",
                ..SCOPE
            },
            LinkScope {
                user_agent: b"Mozilla/5.1",
                ..SCOPE
            },
        ] {
            assert_eq!(keyring.open_link(&token, &scope, NOW), None, "{scope:?}");
        }
    }

    #[test]
    fn nobody_else_makes_changes_or_reads_a_token() {
        let keyring = keyring(&[7; 32]);
        let token = keyring.seal_link(VISITOR, &SCOPE, [9; 12], NOW).unwrap();
        let bytes = URL_SAFE_NO_PAD.decode(&token).unwrap();
        assert!(
            !bytes
                .windows(4)
                .any(|part| VISITOR.0.windows(4).any(|of_id| of_id == part))
        );
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            let changed = URL_SAFE_NO_PAD.encode(changed);
            assert_eq!(keyring.open_link(&changed, &SCOPE, NOW), None, "byte {at}");
        }
        for cut in 0..token.len() {
            assert_eq!(keyring.open_link(&token[..cut], &SCOPE, NOW), None, "{cut}");
        }
        for bad in ["", "-", "ä", &format!("{token}A"), &token.repeat(2)] {
            assert_eq!(keyring.open_link(bad, &SCOPE, NOW), None, "{bad}");
        }
        let other = self::keyring(&[8; 32]);
        assert_eq!(other.open_link(&token, &SCOPE, NOW), None);
        let both = CookieKeyring::new([(4, &[8; 32][..]), (3, &[7; 32][..])], 1);
        assert!(
            both.open_link(&token, &SCOPE, NOW).is_some(),
            "a former key"
        );
        let cookie = keyring.at("shop.example").sign(VISITOR, None, NOW).unwrap();
        assert_eq!(keyring.open_link(&cookie, &SCOPE, NOW), None);
    }
}
