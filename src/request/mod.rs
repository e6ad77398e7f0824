//! The facts of an HTTP request: headers, addresses, agents and texts. It knows no hit's meaning. Pure.

mod address;
pub(crate) mod agent;
mod headers;
pub(crate) mod text;

pub use address::{ForwardedHeader, client_ip, forwarded_https};
pub use headers::Headers;
pub(crate) use headers::mobile;
pub(crate) use text::is_encoded_still;
