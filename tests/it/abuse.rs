//! What one stranger at default settings can do, in a short form of each attack.

mod attribution;
mod batch;
mod cookie;
mod device;
mod equal;
mod inquiry;
mod keyed;
mod schema;
