//! What each pure part of a hit's way costs, over the requests of `make bench`: `cargo bench -p
//! loadtest --bench pure` says how long it takes; `make bench-check` counts its instructions, which
//! noise does not change, and fails where one has become dearer than
//! `loadtest/benches/instructions.toml` says. `BENCH_WRITE=1 make bench-check` writes that file
//! anew.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a measurement fails by panicking and prints"
)]

mod instructions;
mod parts;
mod whole;

use criterion::{Criterion, Throughput};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    if let Some((part, runs)) = instructions::counted() {
        instructions::run(&part, runs);
    } else if std::env::var_os("BENCH_CHECK").is_some() {
        std::process::exit(i32::from(!instructions::check()));
    } else {
        let mut criterion = Criterion::default().configure_from_args();
        for (name, make) in parts::ALL {
            let mut group = criterion.benchmark_group(name);
            group.throughput(Throughput::Elements(parts::HITS as u64));
            let mut work = make();
            group.bench_function("hits", |bencher| bencher.iter(&mut work));
            group.finish();
        }
        criterion.final_summary();
    }
}
