//! The members of JSON objects as values of columns.
//!
//! A number keeps the digits that were written, as it does at the edge: two IDs that differ in the
//! twentieth digit are two customers, and no float tells them apart.

use std::borrow::Cow;

use super::Manifest;

/// The largest exponent of a number, beyond which it stays as it is written.
const EXPONENT_MAX: u32 = 30;

/// A value that is no list and no object.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Scalar<'j> {
    /// `null`.
    Null,
    /// A text.
    Text(String),
    /// A number, as it is written.
    Number(&'j str),
    /// `true` or `false`.
    Truth(&'j str),
}

/// Reads a value of JSON that has no blanks around it.
///
/// # Errors
/// What it is, and what would be right.
pub(super) fn read_scalar(json: &str) -> Result<Scalar<'_>, &'static str> {
    match json.as_bytes() {
        [b'"', ..] => match serde_json::from_str::<String>(json) {
            Ok(text) => Ok(Scalar::Text(text)),
            Err(_) => Err("a text that is no Unicode: is half of an escaped pair missing?"),
        },
        [b'{' | b'[', ..] => Err("a list or an object: a text or a number would be right"),
        [b'-' | b'0'..=b'9', ..] => Ok(Scalar::Number(json)),
        b"null" => Ok(Scalar::Null),
        _ => Ok(Scalar::Truth(json)),
    }
}

impl Manifest {
    /// Writes a number of JSON as the manifest says that numbers are written.
    pub(super) fn write_number(&self, number: &str) -> String {
        let plain = write_plain(number);
        match self.has_decimal_comma {
            true => plain.replace('.', ","),
            false => plain.into_owned(),
        }
    }
}

/// Writes a number without its exponent, digit by digit.
fn write_plain(number: &str) -> Cow<'_, str> {
    let Some((mantissa, exponent)) = number.split_once(['e', 'E']) else {
        return Cow::Borrowed(number);
    };
    let exponent: i32 = match exponent.parse::<i32>() {
        Ok(exponent) if exponent.unsigned_abs() <= EXPONENT_MAX => exponent,
        _ => return Cow::Borrowed(number),
    };
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(mantissa) => ("-", mantissa),
        None => ("", mantissa),
    };
    let (whole, decimals) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    // Zeros on both sides, so that the point moves among digits.
    let shift = exponent.unsigned_abs() as usize;
    let zeros = "0".repeat(shift);
    let digits = format!("{zeros}{whole}{decimals}{zeros}");
    let point = match exponent < 0 {
        true => whole.len(),
        false => whole.len() + 2 * shift,
    };
    let (whole, decimals) = digits.split_at_checked(point).unwrap_or((&digits, ""));
    let whole = match whole.trim_start_matches('0') {
        "" => "0",
        whole => whole,
    };
    Cow::Owned(match decimals.trim_end_matches('0') {
        "" => format!("{sign}{whole}"),
        decimals => format!("{sign}{whole}.{decimals}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exponent_moves_the_point_and_no_digit_is_lost() {
        for (number, plain) in [
            ("12", "12"),
            ("-1.50", "-1.50"),
            ("1e3", "1000"),
            ("1.5E2", "150"),
            ("1.0E+7", "10000000"),
            ("15e-1", "1.5"),
            ("-5e-3", "-0.005"),
            ("1e0", "1"),
            ("12345678901234567e1", "123456789012345670"),
            ("1e400", "1e400"),
            ("1e99999999999", "1e99999999999"),
        ] {
            assert_eq!(write_plain(number), plain);
        }
    }

    #[test]
    fn a_scalar_is_told_by_how_it_is_written() {
        assert_eq!(read_scalar("null"), Ok(Scalar::Null));
        assert_eq!(read_scalar("true"), Ok(Scalar::Truth("true")));
        assert_eq!(read_scalar("-1.50"), Ok(Scalar::Number("-1.50")));
        let text = Scalar::Text("å\"".to_owned());
        assert_eq!(read_scalar(r#""\u00e5\"""#), Ok(text));
        for wrong in ["[1]", "{}", r#""\ud800""#] {
            assert!(read_scalar(wrong).is_err(), "{wrong}");
        }
    }
}
