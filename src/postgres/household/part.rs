//! The sightings of a batch, kept in its transaction.

use tokio_postgres::types::Type;
use tokio_postgres::{Error, Transaction};
use uuid::Uuid;

use crate::hit::{Flags, Permit};
use crate::identity::Node;
use crate::postgres::batch::load::Rows;

/// What [`Sighting::hour`] has besides for a phone.
const PHONE: i16 = 32;

/// The days from 1970-01-01 to 2000-01-01, from which Postgres counts.
const UNIX_TO_POSTGRES_DAYS: i32 = 10_957;

/// A device at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sighting {
    /// The number of the address.
    pub address: i64,
    /// The ID of the device.
    pub node: Node,
    /// The day there, since 1970.
    pub day: i32,
    /// The hour there.
    pub hour: u8,
    /// Whether it is a phone.
    pub is_phone: bool,
}

/// The sightings of a batch, all of one epoch.
#[derive(Debug, Default)]
pub struct SightingPart {
    /// Each with the byte at which its row begins, and with what forgets it.
    sightings: Vec<(usize, u64, Sighting)>,
    epoch: i32,
    permit: Permit,
    /// Those that were not stored, once the batch is committed.
    pub(crate) dropped: Vec<u64>,
}

impl SightingPart {
    /// The flags that take a sighting away, whoever sets them: of machines, of hits that do not
    /// say where a device is, and of times that may be wrong.
    pub(crate) const WITHOUT: Flags = Flags::MACHINE
        .with(Flags::MAIL_PROXY)
        .with(Flags::OVER_LIMIT)
        .with(Flags::THIRD_PARTY)
        .with(Flags::SYSTEM)
        .with(Flags::ANONYMOUS)
        .with(Flags::REPLAYED)
        .with(Flags::WRONG_CLOCK);

    /// Empties it.
    pub fn clear(&mut self) {
        self.sightings.clear();
        self.dropped.clear();
    }

    /// Adds a sighting of an epoch that the row makes which begins at a byte; `forget` is told if
    /// it is not stored.
    pub fn push(
        &mut self,
        (start, forget): (usize, u64),
        sighting: Sighting,
        (epoch, permit): (i32, Permit),
    ) {
        self.permit = if self.sightings.is_empty() {
            permit
        } else {
            self.permit.and(permit)
        };
        self.epoch = epoch;
        self.sightings.push((start, forget, sighting));
    }

    /// Stores those of rows that are stored, each once, as one row of `sighting_part`. Of rows that
    /// were left out, or got a flag that takes a sighting away, they are dropped.
    pub(crate) async fn keep(
        &mut self,
        transaction: &Transaction<'_>,
        rows: &Rows,
    ) -> Result<(), Error> {
        let mut flags_of = rows.flags_in_order();
        let mut kept: Vec<Sighting> = Vec::new();
        for (start, forget, sighting) in &self.sightings {
            let flags = flags_of(*start);
            if flags.is_some_and(|flags| !flags.has_any(SightingPart::WITHOUT)) {
                kept.push(*sighting);
            } else {
                self.dropped.push(*forget);
            }
        }
        kept.sort_unstable();
        kept.dedup();
        if kept.is_empty() {
            return Ok(());
        }
        let addresses: Vec<i64> = kept.iter().map(|seen| seen.address).collect();
        let nodes: Vec<Uuid> = kept
            .iter()
            .map(|seen| Uuid::from_bytes(seen.node.0))
            .collect();
        let days: Vec<i32> = kept
            .iter()
            .map(|seen| seen.day.saturating_sub(UNIX_TO_POSTGRES_DAYS))
            .collect();
        let phone = |seen: &Sighting| if seen.is_phone { PHONE } else { 0 };
        let hours: Vec<i16> = kept
            .iter()
            .map(|seen| i16::from(seen.hour) | phone(seen))
            .collect();
        transaction
            .execute_typed(
                "insert into avtryck.sighting_part (epoch, permit, address, node, day, hour) \
                 select $1, $2, $3, $4, array_agg(date '2000-01-01' + day order by at), $6 \
                 from unnest($5) with ordinality as days (day, at)",
                &[
                    (&self.epoch, Type::INT4),
                    (&i16::from(self.permit.bits()), Type::INT2),
                    (&addresses, Type::INT8_ARRAY),
                    (&nodes, Type::UUID_ARRAY),
                    (&days, Type::INT4_ARRAY),
                    (&hours, Type::INT2_ARRAY),
                ],
            )
            .await?;
        Ok(())
    }
}
