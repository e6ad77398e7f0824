//! What one stranger at default settings can do, in a short form of each attack.

mod batch;
mod cookie;
mod device;
mod attribution;
mod equal;
mod inquiry;
mod keyed;
mod schema;
