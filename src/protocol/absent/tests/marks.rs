use super::*;

/// Recursion without a limit overflowed the stack by the first two, and took forever on the others.
#[test]
fn a_value_of_nothing_but_marks_costs_little() {
    for value in [
        format!("{}12345x", "$".repeat(60_000)),
        format!("{0}12345x{0}", "~".repeat(30_000)),
        format!("{}1x{}", "$:".repeat(40), "$".repeat(40)),
        format!("{}1x{}", "%$".repeat(60), "%".repeat(60)),
        format!("a{}1x", "-${".repeat(80)),
    ] {
        assert_eq!(absence_of_id(&value), None, "{} bytes", value.len());
    }
}
