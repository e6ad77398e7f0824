//! The protocols: one table.
//!
//! [`crate::protocol`] reads each of them. Its number stands in recorded hits and in rows, so it
//! is never used again, and a migration gives it its name in SQL (`avtryck.protocol_name`).
//! Headers, replies, metric labels and docs/endpoints.md follow from the table.

use hyper::StatusCode;

/// What the table says about one protocol.
#[derive(Clone, Copy, Debug)]
pub struct ProtocolSpec {
    /// The word in SQL, in metric labels and in the live view.
    pub name: &'static str,
    /// What its clients call the field that names their site; empty where the site's key does.
    pub site_field: &'static str,
    /// The headers that pages may send: those that its clients do send. A name that ends with a
    /// star stands for all that begin so.
    pub page_headers: &'static [&'static str],
    /// Whether what its clients call their site by is a secret.
    pub is_site_secret: bool,
    /// Whether a HEAD records a hit as a GET does, because the maker's collector counts it.
    pub records_head: bool,
    /// The status of a reply to recorded events.
    pub recorded: StatusCode,
    /// What the reply to a body of events holds.
    pub ending: Ending,
    /// The status for a client that sends too much.
    pub over_limit: StatusCode,
    /// The status for a site that is not known; `None` if the reply is the same as for a known one.
    pub site_unknown: Option<StatusCode>,
}

/// What a protocol's clients take for the end of a body of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The text `ok`.
    Text,
    /// A transparent GIF.
    Gif,
    /// A JSON object that says whether any of them was recorded; for requests without a body too.
    Json,
}

/// What most rows have.
const USUAL: ProtocolSpec = ProtocolSpec {
    name: "",
    site_field: "",
    page_headers: &["content-type"],
    is_site_secret: false,
    records_head: false,
    recorded: StatusCode::OK,
    ending: Ending::Text,
    over_limit: StatusCode::SERVICE_UNAVAILABLE,
    site_unknown: None,
};

/// Defines [`Protocol`] and the table from one list of rows.
macro_rules! protocols {
    ($($(#[$meta:meta])+ $protocol:ident = $number:literal { $($column:tt)* })+) => {
        /// The protocol in which hits arrive, and replies are given.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Protocol {
            $($(#[$meta])+ $protocol = $number,)+
        }

        impl Protocol {
            /// Every protocol, in the order of its number.
            pub const ALL: [Protocol; [$(Protocol::$protocol),+].len()] =
                [$(Protocol::$protocol),+];

            /// Returns the protocol's row of the table.
            #[must_use]
            pub const fn spec(self) -> &'static ProtocolSpec {
                match self {
                    $(Protocol::$protocol => const { &ProtocolSpec { $($column)*, ..USUAL } },)+
                }
            }
        }
    };
}

protocols! {
    /// Our own, and partners' callbacks.
    #[default]
    Native = 0 {
        name: "native"
    }
    /// Snowplow's trackers.
    Snowplow = 1 {
        name: "snowplow",
        site_field: "aid",
        page_headers: &["content-type", "sp-anonymous"],
        records_head: true
    }
    /// The SDKs of Segment and RudderStack.
    Segment = 2 {
        name: "segment",
        site_field: "writeKey",
        page_headers: &[
            "content-type",
            "authorization",
            "anonymousid",
            "sentat",
            "x-retry-count",
            "rsa-*",
        ],
        is_site_secret: true,
        ending: Ending::Json,
        over_limit: StatusCode::TOO_MANY_REQUESTS,
        site_unknown: Some(StatusCode::UNAUTHORIZED)
    }
    /// Matomo's trackers.
    Matomo = 3 {
        name: "matomo",
        site_field: "idsite",
        ending: Ending::Gif
    }
    /// Plausible's script.
    Plausible = 4 {
        name: "plausible",
        site_field: "domain",
        recorded: StatusCode::ACCEPTED
    }
}

impl Protocol {
    /// Checks whether it is our own.
    #[must_use]
    pub(crate) const fn is_native(self) -> bool {
        matches!(self, Protocol::Native)
    }

    /// Returns the word in SQL, in metric labels and in the live view.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.spec().name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_given_once() {
        for (at, protocol) in Protocol::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(protocol as u8), at);
            let is_same = |other: &Protocol| other.name() == protocol.name();
            assert_eq!(Protocol::ALL.iter().position(is_same), Some(at));
        }
    }
}
