//! Binary COPY of rows into `avtryck.hit`, encoded by hand.
//!
//! The format is Postgres's "Binary Format" of COPY: a 19-byte header, then for each row the number
//! of columns (i16) and for each column its length (i32, -1 for NULL) and bytes, big-endian; at the
//! end -1 as i16. Timestamps are microseconds since 2000-01-01; inet is family (2 or 3), prefix
//! bits, is-CIDR, length, address; jsonb is a version byte (1) and the text.
//!
//! The order of the columns is this module's own. The flags come first, and after them the exposure
//! number, so that both lie at constant offsets from the start of a row, and a step of the
//! transaction can change them in rows that are encoded already ([`FLAGS_OFFSET`],
//! [`EXPOSURE_NUMBER_OFFSET`]).

use std::net::IpAddr;
use std::ops::Range;

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::SinkExt as _;
use ipnet::IpNet;
use tokio_postgres::{Error, Transaction};

use crate::clock::UnixMicros;
use crate::hit::Flags;
use crate::postgres::timestamp::POSTGRES_EPOCH_MICROS;
use crate::row::Row;

/// The bytes that one message of the COPY carries, unless a row is longer: large enough that
/// messages cost nothing, small enough that the connection's buffer does not grow to the size of
/// the batch.
const PIECE_BYTES: usize = 256 * 1024;

const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const TRAILER: &[u8] = &[0xff, 0xff];

/// The columns before and after the keys of the dimensions.
const BEFORE_KEYS: [&str; 7] = [
    "flags",
    "exposure_number",
    "received_at",
    "kind",
    "permit",
    "consent_source",
    "hit_id",
];
const AFTER_KEYS: [&str; 15] = [
    "visitor_id",
    "page_url",
    "referrer",
    "event_name",
    "event_id",
    "partner_uid",
    "maid",
    "device_id",
    "click_id",
    "session_id",
    "client_ip",
    "params",
    "user_key",
    "occurred_at",
    "protocol",
];

/// The place of the flags (i32) in a row: after the number of columns and their own length.
pub(crate) const FLAGS_OFFSET: usize = 2 + 4;

/// The place of the exposure number (i32) in a row that has one: after the flags and its own
/// length.
pub(crate) const EXPOSURE_NUMBER_OFFSET: usize = FLAGS_OFFSET + 4 + 4;

/// Appends one row. With `has_exposure` it has room for its exposure number, which is 0 for now;
/// otherwise it has none. [`Flags::OF_LOADER`] are in no row.
pub fn encode(row: &Row<'_>, has_exposure: bool, out: &mut Vec<u8>) {
    let columns = BEFORE_KEYS.len() + row.keys.len() + AFTER_KEYS.len();
    out.put_i16(i16::try_from(columns).unwrap_or(i16::MAX));
    out.put_i32(4);
    out.put_i32(row.flags.without(Flags::OF_LOADER).bits().cast_signed());
    if has_exposure {
        out.put_i32(4);
        out.put_i32(0);
    } else {
        out.put_i32(-1);
    }
    put_time(out, Some(row.received_at));
    for number in [
        row.kind.number(),
        row.permit.bits(),
        row.consent_source.number(),
    ] {
        out.put_i32(2);
        out.put_i16(i16::from(number));
    }
    put_bytes(out, &row.hit_id);
    for key in &*row.keys {
        put_i64(out, *key);
    }
    match &row.visitor_id {
        Some(visitor) => put_bytes(out, &visitor.0),
        None => out.put_i32(-1),
    }
    for text in row.texts() {
        put_text(out, text);
    }
    put_inet(out, row.client_ip);
    if row.params.is_empty() {
        out.put_i32(-1);
    } else {
        out.put_i32(length(row.params.len() + 1));
        out.put_u8(1);
        out.put_slice(row.params.as_bytes());
    }
    match &row.user_key {
        Some(user) => put_bytes(out, &user.0),
        None => out.put_i32(-1),
    }
    put_time(out, row.occurred_at);
    // Most hits are in our own protocol, and a NULL takes no room in a row.
    match row.protocol {
        Some(protocol) => {
            out.put_i32(2);
            out.put_i16(i16::from(protocol));
        }
        None => out.put_i32(-1),
    }
}

/// Returns where an encoded row has the key of the dimension with that index, if it has one.
pub(crate) fn place_of_key(row: &[u8], dimension: usize) -> Option<Range<usize>> {
    let length_at = |at: usize| {
        let length = row.get(at..)?.first_chunk()?;
        usize::try_from(i32::from_be_bytes(*length)).ok()
    };
    let after = |at: usize| at + 4 + length_at(at).unwrap_or_default();
    let columns = BEFORE_KEYS.len() + dimension;
    let at = (0..columns).fold(2, |at, _| after(at));
    length_at(at).map(|length| at + 4..at + 4 + length)
}

/// Returns the statement that copies rows to a table with the columns of `hit`. Their keys are
/// those of `dimensions`, in their order.
pub(crate) fn statement(table: &str, dimensions: &[&str]) -> String {
    let keys = dimensions.iter().map(|table| format!("{table}_key"));
    let columns: Vec<String> = BEFORE_KEYS
        .into_iter()
        .map(str::to_owned)
        .chain(keys)
        .chain(AFTER_KEYS.into_iter().map(str::to_owned))
        .collect();
    format!(
        "copy avtryck.{table} ({}) from stdin (format binary)",
        columns.join(", ")
    )
}

/// Copies encoded rows (without header and trailer) into a table and returns how many there were.
///
/// # Errors
/// Where Postgres refuses a row or fails.
pub(crate) async fn load<'r>(
    transaction: &Transaction<'_>,
    statement: &str,
    rows: impl Iterator<Item = &'r [u8]>,
) -> Result<u64, Error> {
    let sink = transaction.copy_in::<_, Bytes>(statement).await?;
    let mut sink = std::pin::pin!(sink);
    let mut piece = BytesMut::from(HEADER);
    for row in rows {
        if piece.len() + row.len() > PIECE_BYTES {
            sink.feed(piece.split().freeze()).await?;
            piece.reserve(PIECE_BYTES);
        }
        piece.extend_from_slice(row);
    }
    piece.extend_from_slice(TRAILER);
    sink.feed(piece.freeze()).await?;
    sink.finish().await
}

/// Returns the length of a column. Hits are far below 2 GiB: a longer text would break an
/// invariant, and Postgres refuses a row with this length.
fn length(bytes: usize) -> i32 {
    i32::try_from(bytes).unwrap_or(i32::MAX)
}

fn put_time(out: &mut Vec<u8>, at: Option<UnixMicros>) {
    put_i64(out, at.map(|at| at.0.saturating_sub(POSTGRES_EPOCH_MICROS)));
}

fn put_i64(out: &mut Vec<u8>, value: Option<i64>) {
    match value {
        Some(value) => {
            out.put_i32(8);
            out.put_i64(value);
        }
        None => out.put_i32(-1),
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.put_i32(length(bytes.len()));
    out.put_slice(bytes);
}

/// An empty text is NULL.
fn put_text(out: &mut Vec<u8>, text: &str) {
    if text.is_empty() {
        out.put_i32(-1);
    } else {
        put_bytes(out, text.as_bytes());
    }
}

fn put_inet(out: &mut Vec<u8>, network: Option<IpNet>) {
    let Some(network) = network else {
        return out.put_i32(-1);
    };
    match network.addr() {
        IpAddr::V4(ip) => {
            out.put_i32(8);
            out.put_slice(&[2, network.prefix_len(), 0, 4]);
            out.put_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            out.put_i32(20);
            out.put_slice(&[3, network.prefix_len(), 0, 16]);
            out.put_slice(&ip.octets());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::hit::{ConsentSource, Kind, Permit};

    #[test]
    fn flags_and_exposure_number_lie_where_the_offsets_say() {
        let row = Row {
            received_at: UnixMicros(1),
            keys: Cow::Borrowed(&[None, Some(1)]),
            flags: Flags::THIRD_PARTY.with(Flags::CLEANED),
            kind: Kind::Click,
            permit: Permit::ALL,
            consent_source: ConsentSource::Tcf,
            hit_id: [7; 16],
            visitor_id: None,
            page_url: "".into(),
            referrer: "".into(),
            event_name: "".into(),
            event_id: "".into(),
            partner_uid: "".into(),
            maid: "".into(),
            device_id: "".into(),
            click_id: "".into(),
            session_id: "".into(),
            client_ip: None,
            params: "".into(),
            user_key: None,
            occurred_at: None,
            protocol: None,
        };
        let mut bytes = Vec::new();
        encode(&row, true, &mut bytes);
        assert_eq!(place_of_key(&bytes, 0), None);
        let key = place_of_key(&bytes, 1).map(|key| &bytes[key]);
        assert_eq!(key, Some(&1_i64.to_be_bytes()[..]));
        assert_eq!(bytes[FLAGS_OFFSET..][..4], 65_i32.to_be_bytes());
        assert_eq!(
            bytes[EXPOSURE_NUMBER_OFFSET - 4..][..8],
            [0, 0, 0, 4, 0, 0, 0, 0]
        );
    }
}
