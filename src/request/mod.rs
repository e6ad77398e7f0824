//! The facts of an HTTP request: its headers, its client's address, its user agent. They know
//! nothing of hits. Pure.

mod address;
pub(crate) mod agent;
mod blank;
mod cookie;
mod encoding;
mod headers;
mod host;
pub(crate) mod marks;
mod query;
pub(crate) mod quoted;

pub(crate) use address::forwarded_is_https;
pub use address::{ForwardedHeader, client_ip, forwarded_https};
pub(crate) use blank::skip_blanks;
pub(crate) use cookie::Prefix;
pub use cookie::{CookieNames, FoundCookie, NameTrust};
pub(crate) use encoding::{is_encoded_still, push_escaped};
pub use headers::Headers;
pub(crate) use host::{host_of, without_root};
pub(crate) use query::{raw_value, split_pairs, unescape_separators};
