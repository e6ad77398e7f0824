//! Trackers of other makers, unmodified: requests that real clients sent, replayed, and the clients
//! themselves; and what their protocols brought for all hits.

mod edge;
mod fields;
mod matomo;
mod matomo_clients;
mod plausible;
mod recorded;
mod segment;
mod segment_clients;
mod snowplow;
mod snowplow_clients;
mod snowplow_moved;
mod snowplow_schema;
