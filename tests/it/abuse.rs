//! What one stranger at default settings can do, in a short form of each attack.

mod batch;
mod cookie;
mod equal;
mod inquiry;
mod keyed;
mod schema;
