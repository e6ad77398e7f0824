#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| avtryck_fuzz::tracker(bytes));
