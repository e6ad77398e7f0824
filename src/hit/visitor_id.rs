//! The random ID of a visitor, and its text form.

use std::fmt;

use uuid::Uuid;

/// The random 128-bit ID of a visitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VisitorId(pub [u8; 16]);

impl VisitorId {
    /// Reads a UUID: 32 hex digits, with or without its dashes.
    #[must_use]
    pub fn from_uuid(text: &str) -> Option<VisitorId> {
        // In braces or as a URN it is not what SQL shows or what the command line takes.
        let is_plain = matches!(text.len(), 32 | 36);
        let uuid = is_plain.then(|| Uuid::try_parse(text).ok())?;
        uuid.map(|uuid| VisitorId(uuid.into_bytes()))
    }
}

impl fmt::Display for VisitorId {
    /// Writes a UUID, as SQL shows the ID.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Uuid::from_bytes(self.0).hyphenated().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_visitor_id_is_read_as_it_is_shown() {
        let visitor = VisitorId(*b"\x00\x01\x7f\x80\xfeabcdefghijk");
        let shown = visitor.to_string();
        assert_eq!(shown, "00017f80-fe61-6263-6465-666768696a6b");
        assert_eq!(VisitorId::from_uuid(&shown), Some(visitor));
        assert_eq!(
            VisitorId::from_uuid(&shown.replace('-', "").to_uppercase()),
            Some(visitor)
        );
        for bad in [
            "",
            "00017f80-fe61-6263-6465-666768696a6",
            "00017f80-fe61-6263-6465-666768696a6g",
            "+0017f80-fe61-6263-6465-666768696a6b",
            "00017f8-0fe61-6263-6465-666768696a6b",
            "å0017f80-fe61-6263-6465-666768696a6",
            "{00017f80-fe61-6263-6465-666768696a6b}",
            "urn:uuid:00017f80-fe61-6263-6465-666768696a6b",
        ] {
            assert_eq!(VisitorId::from_uuid(bad), None, "{bad}");
        }
    }
}
