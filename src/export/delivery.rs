//! A delivery as text.

use uuid::Uuid;

/// What a delivery is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryKind {
    /// Whom the receiver is to forget.
    Remove,
    /// Who came since.
    Delta,
    /// All there is.
    Full,
    /// Who came into segments and left them.
    Event,
}

impl DeliveryKind {
    /// Returns the word in SQL and in deliveries.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            DeliveryKind::Remove => "remove",
            DeliveryKind::Delta => "delta",
            DeliveryKind::Full => "full",
            DeliveryKind::Event => "event",
        }
    }

    /// Returns the kind with that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<DeliveryKind> {
        let mut all = [
            DeliveryKind::Remove,
            DeliveryKind::Delta,
            DeliveryKind::Full,
            DeliveryKind::Event,
        ]
        .into_iter();
        all.find(|kind| kind.name() == name)
    }
}

/// A line of a delivery.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(untagged)]
pub enum DeliveryLine {
    /// What a partner is told.
    Member {
        /// `add` or `remove`.
        op: &'static str,
        /// The segment's key.
        segment: String,
        /// What the partner knows the subject by.
        id: String,
    },
    /// What a webhook is told.
    Event {
        /// `entry` or `exit`.
        event: &'static str,
        /// The segment's key.
        segment: String,
        /// The subject: a visitor's ID, or the key of another.
        subject: String,
        /// Why, as `segment_change.reason`.
        reason: String,
        /// When, in RFC 3339.
        at: String,
    },
}

/// What is sent at once.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Its ID.
    pub id: Uuid,
    /// The key of the partner or webhook.
    pub to: String,
    /// Its number among those of the receiver.
    pub number: i64,
    /// What it is about.
    pub kind: DeliveryKind,
    /// Which part of a full list; 1 of anything else.
    pub part: i32,
    /// Whether it is the last part.
    pub is_last: bool,
    /// What it says.
    pub lines: Vec<DeliveryLine>,
}

/// The first line.
#[derive(serde::Serialize)]
struct Head<'d> {
    delivery: String,
    to: &'d str,
    number: i64,
    kind: &'static str,
    part: i32,
    is_last: bool,
    lines: usize,
}

impl Delivery {
    /// Returns it as bytes.
    ///
    /// # Errors
    /// None that is known: a text can always be written as JSON.
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        let head = Head {
            delivery: self.id.to_string(),
            to: &self.to,
            number: self.number,
            kind: self.kind.name(),
            part: self.part,
            is_last: self.is_last,
            lines: self.lines.len(),
        };
        let mut bytes = serde_json::to_vec(&head)?;
        bytes.push(b'\n');
        for line in &self.lines {
            serde_json::to_writer(&mut bytes, line)?;
            bytes.push(b'\n');
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn it_is_as_the_documentation_shows_it() {
        let delivery = Delivery {
            id: Uuid::from_bytes([1; 16]),
            to: "adform".to_owned(),
            number: 7,
            kind: DeliveryKind::Delta,
            part: 1,
            is_last: true,
            lines: vec![
                DeliveryLine::Member {
                    op: "add",
                    segment: "upgrade".to_owned(),
                    id: "x\"y".to_owned(),
                },
                DeliveryLine::Event {
                    event: "exit",
                    segment: "upgrade".to_owned(),
                    subject: Uuid::from_bytes([2; 16]).to_string(),
                    reason: "rule".to_owned(),
                    at: "2026-11-27T22:00:00Z".to_owned(),
                },
            ],
        };
        assert_eq!(
            String::from_utf8(delivery.to_bytes().unwrap()).unwrap(),
            concat!(
                r#"{"delivery":"01010101-0101-0101-0101-010101010101","to":"adform","number":7,"kind":"delta","part":1,"is_last":true,"lines":2}"#,
                "\n",
                r#"{"op":"add","segment":"upgrade","id":"x\"y"}"#,
                "\n",
                r#"{"event":"exit","segment":"upgrade","subject":"02020202-0202-0202-0202-020202020202","reason":"rule","at":"2026-11-27T22:00:00Z"}"#,
                "\n"
            )
        );
    }
}
