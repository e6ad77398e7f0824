//! Tells cargo of the migrations: they are compiled in, and it would not see a new one.

fn main() {
    println!("cargo::rerun-if-changed=src/postgres/migrations");
}
