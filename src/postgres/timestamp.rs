//! Times as parameters and results.

use bytes::{BufMut as _, BytesMut};
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};

use crate::clock::UnixMicros;

type Failure = Box<dyn std::error::Error + Sync + Send>;

/// 1970-01-01 to 2000-01-01 in microseconds.
pub(crate) const POSTGRES_EPOCH_MICROS: i64 = 946_684_800_000_000;

/// A value of the SQL type `timestamptz`: microseconds since 2000-01-01.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timestamp(pub(crate) UnixMicros);

impl ToSql for Timestamp {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Failure> {
        out.put_i64(self.0.0.saturating_sub(POSTGRES_EPOCH_MICROS));
        Ok(IsNull::No)
    }

    accepts!(TIMESTAMPTZ);
    to_sql_checked!();
}

impl<'a> FromSql<'a> for Timestamp {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Timestamp, Failure> {
        let micros = i64::from_be_bytes(raw.try_into()?);
        Ok(Timestamp(UnixMicros(
            micros.saturating_add(POSTGRES_EPOCH_MICROS),
        )))
    }

    accepts!(TIMESTAMPTZ);
}
