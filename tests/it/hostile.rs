//! Input that hurts: requests that two readers understand differently, clients that take their
//! time, clients that send too much, bytes that steer terminals.

mod control;
mod limit;
mod payloads;
mod slow;
mod smuggling;
