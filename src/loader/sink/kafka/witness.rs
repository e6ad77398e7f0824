//! Tells a topic from another one of the same name.
//!
//! Offsets begin at 0 again where a topic is deleted and made anew, so whoever goes on from an
//! offset of the old one would pass over what the new one has. A witness is a message that was
//! read, by its offset and its time: while Kafka still has that offset, the same message must be
//! there.
//!
//! | reader | keeps its witness | where another message is there, or none |
//! | --- | --- | --- |
//! | of hits and counts | in Postgres ([`crate::loader::from_kafka`]) | nothing more is loaded until somebody says so, unless Kafka has deleted it by age |
//! | of instructions ([`super::instruction`]) | in memory | the topic is read from its beginning, whether it was made anew or compacted |

use rdkafka::message::{BorrowedMessage, Message as _};

/// A message that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::loader) struct Witness {
    pub(in crate::loader) offset: i64,
    /// In milliseconds since 1970, by Kafka.
    pub(in crate::loader) at_millis: i64,
}

impl Witness {
    /// Returns that of a message.
    pub(in crate::loader) fn of(message: &BorrowedMessage<'_>) -> Witness {
        Witness {
            offset: message.offset(),
            at_millis: message.timestamp().to_millis().unwrap_or_default(),
        }
    }
}
