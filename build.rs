//! Tells cargo of the migrations: they are compiled in, and it would not see a new one.

#![expect(clippy::print_stdout, reason = "this is how cargo is told")]

fn main() {
    println!("cargo::rerun-if-changed=src/postgres/migrations");
}
