//! The product from outside: bytes in, reply and row out, against the real binary, a real Postgres
//! and a real browser.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    missing_docs,
    reason = "a test that panics has failed, as it should"
)]

mod abuse;
mod ads;
mod browser;
mod category;
mod chaos;
mod choice;
mod clocks;
mod command_line;
mod consent;
mod device;
mod device_differential;
mod export;
mod fixture;
mod front;
mod fuzz;
mod geodata;
mod hits;
mod hostile;
mod http2;
mod image;
mod import;
mod kafka;
mod kubernetes;
mod links;
mod live;
mod load;
mod load_from_kafka;
mod loading;
mod log;
mod neighbours;
mod night;
mod numbers;
mod operation;
mod package;
mod pages;
mod plain;
mod privacy;
mod prometheus;
mod proxied;
mod reload;
mod reports;
mod requests;
mod segments;
mod servers;
mod shards;
mod subject;
mod supply;
mod support;
mod systems;
mod tag;
#[path = "../../fuzz/src/lib.rs"]
#[allow(
    unreachable_pub,
    reason = "a package of its own, which the fuzzer links"
)]
mod targets;
#[path = "../../src/postgres/server/embedded/testing.rs"]
mod testing;
mod tidy;
mod ties;
mod tls;
mod tracker;
mod upgrade;

use avtryck::postgres;
