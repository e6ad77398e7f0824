//! The log on standard error.

use std::borrow::Cow;
use std::io::{self, IsTerminal as _, Write};

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

/// Logs to stderr: for people on a terminal, as JSON elsewhere. `AVTRYCK_LOG` is the level of the
/// collector's own messages only. Of libraries at most warnings are logged, because below that
/// level tokio-postgres logs the parameters of statements, which are IDs. What Postgres tells of a
/// row that it refuses is left out of every message.
pub(super) fn to_stderr() -> Result<(), String> {
    let level = match std::env::var("AVTRYCK_LOG") {
        Err(_) => LevelFilter::INFO,
        Ok(text) => text.parse().map_err(|_| {
            format!("AVTRYCK_LOG: {text:?} is wrong; off, error, warn, info, debug or trace would be right")
        })?,
    };
    let levels = Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_target("avtryck", level);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(|| Lines(io::stderr()))
        .with_target(false);
    let lines = if std::io::stderr().is_terminal() {
        lines.boxed()
    } else {
        lines.json().boxed()
    };
    tracing_subscriber::registry()
        .with(lines)
        .with(levels)
        .init();
    Ok(())
}

/// Writes lines without the details of Postgres's errors. The formatter hands over one line at a
/// time, whole.
struct Lines<W>(W);

impl<W: Write> Write for Lines<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        self.0.write_all(without_details(&text).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Where an error of Postgres begins to tell values ("Failing row contains (…)"), and where its
/// advice begins, which holds none: as it is and as JSON has it.
const DETAIL: [[&str; 2]; 2] = [["\nDETAIL: ", "\nHINT: "], ["\\nDETAIL: ", "\\nHINT: "]];

/// Leaves out the details, up to the advice, the end of a JSON string or the end of the line.
fn without_details(line: &str) -> Cow<'_, str> {
    let mut kept = Cow::Borrowed(line);
    for [detail, hint] in DETAIL {
        while let Some((before, rest)) = kept.split_once(detail) {
            let ends = [
                rest.find(hint),
                end_of_string(rest).filter(|_| line.starts_with('{')),
            ];
            let end = ends.into_iter().flatten().min();
            let after = end.and_then(|at| rest.get(at..)).unwrap_or("\n");
            kept = Cow::Owned(format!("{before}{after}"));
        }
    }
    kept
}

/// Finds the quotation mark that ends a JSON string.
fn end_of_string(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    text.find(|letter| {
        let is_end = letter == '"' && !is_escaped;
        is_escaped = letter == '\\' && !is_escaped;
        is_end
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_are_left_out_and_nothing_else() {
        let json = |text: &str| format!("{}\n", serde_json::json!({ "error": text, "rows": 3 }));
        let plain = |text: &str| format!("WARN it failed error={text}\n");
        let told = "db error: ERROR: new row violates check constraint \"a\"";
        for line in [json, plain] {
            for (detail, hint) in [
                ("", ""),
                ("\nDETAIL: Failing row contains (4711, \"x\\\", \\\\).", ""),
                ("\nDETAIL: Key (a)=(b\nc\"}) exists.", "\nHINT: Do it."),
                ("\nDETAIL: a\nDETAIL: b", "\nHINT: c"),
                ("\nDETAIL: ", ""),
                ("", "\nHINT: No \\nDETAIL."),
            ] {
                let (whole, expected) = (format!("{told}{detail}{hint}"), format!("{told}{hint}"));
                assert_eq!(without_details(&line(&whole)), line(&expected), "{whole}");
            }
        }
        let two = json("\nDETAIL: a") + &json("\nDETAIL: b");
        assert_eq!(without_details(&two), json("") + &json(""));
    }
}
