//! The layers below a request: sockets, limits, timers, TLS, the headers of HTTP/1.1 and the frames
//! of HTTP/2.

pub(crate) mod closing;
pub(crate) mod entrance;
pub(crate) mod heads;
pub(crate) mod http2;
pub(crate) mod limits;
pub(crate) mod memory;
pub(crate) mod proxy;
pub(crate) mod socket;
pub(crate) mod stream;
pub(crate) mod subscriber;
pub mod target;
pub(crate) mod timer;
pub mod tls;
