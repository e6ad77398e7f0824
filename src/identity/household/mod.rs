//! Households: which devices share a home, by the addresses at which they are seen.
//!
//! A household is not the set of devices that were ever seen at one address: over offices, cafés
//! and carriers that would join a whole town. It goes through six steps, each a pure function:
//!
//! | step | gives |
//! | --- | --- |
//! | [`Stay`] | on which days of an epoch a device was at an address, in hours in which people are at home |
//! | [`AddressKind::of`] | whether an address looks like a home's |
//! | [`pairs_of_epoch`] | a score for two devices that were at the same home address |
//! | [`fold`] | the scores of epochs added up, older ones at half their weight every 28 days |
//! | [`mod@cluster`] | households: pairs joined from the strongest on, while most of the pairs across agree |
//! | [`renumber`] | which device is in which household, the same from night to night |
//!
//! An address is a keyed hash of which the key is gone after an epoch, so the same address has a
//! new number in each epoch. What is found here is compared with the truth of simulated countries
//! (`crates/homes`).

mod address;
mod cluster;
mod number;
mod pair;
#[cfg(test)]
mod tests;
mod truth;

pub use address::{AddressKind, Stay};
pub(crate) use cluster::HOUSEHOLD_DEVICES_MAX;
pub use cluster::cluster;
pub(crate) use number::{Membership, renumber};
pub use pair::{PairScore, fold, pairs_of_epoch};
pub(crate) use truth::CASES_MIN;
pub use truth::{Agreement, Estimate};

/// How many days an epoch has: for that long an address keeps its number.
pub const EPOCH_DAYS: u16 = 14;

/// Checks whether people are at home at that hour, local time: from 18 to 8, and at weekends.
#[must_use]
pub fn is_home_hour(hour: u8, is_weekend: bool) -> bool {
    is_weekend || !(8..18).contains(&hour)
}
