//! What an epoch knows of an address.

use super::EPOCH_DAYS;

/// A device at an address, over an epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stay {
    /// The address's number.
    pub address: i64,
    /// The device group.
    pub device: i64,
    /// Whether the device is a phone.
    pub is_phone: bool,
    /// The days of the epoch on which it was there, a bit each.
    pub days: u16,
    /// Those on which it was there in hours in which people are at home.
    pub home_days: u16,
    /// In how many hours of working days, between 8 and 18, it was there.
    pub work_hours: u16,
    /// In how many other hours.
    pub other_hours: u16,
}

/// What an address is, with its number in SQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum AddressKind {
    /// It may be a home's.
    Home = 0,
    /// A carrier gives it to phones.
    Mobile = 1,
    /// Many share it: a provider's customers, the guests of a hotel or a café.
    Shared = 2,
    /// People work there.
    Office = 3,
}

/// More devices than that are no home's.
const HOME_DEVICES_MAX: usize = 12;
/// Fewer devices than that say too little of whether they come back.
const DEVICES_THAT_TELL: usize = 6;
/// A carrier gives a phone another address each time: at most that share of phones comes back.
const CARRIER_RETURN_MAX: f64 = 0.3;
/// At a home most devices come back: at least this share within a week and within four weeks.
const HOME_RETURN_MIN: [(f64, f64); 2] = [(7.0, 0.3), (28.0, 0.5)];
/// From that many devices on, hours tell an office from a home.
const OFFICE_DEVICES_MIN: usize = 3;
/// At an office there are more than that many working hours for each other hour.
const OFFICE_WORK_HOURS: u32 = 2;

impl AddressKind {
    /// Tells what an address is by all stays at it. `days` of the epoch have passed.
    #[must_use]
    pub fn of(stays: &[Stay], days: u16) -> AddressKind {
        let devices = stays.len();
        let returning = stays.iter().filter(|stay| stay.days.count_ones() >= 2);
        let returning = share(returning.count(), devices);
        if devices >= DEVICES_THAT_TELL
            && returning < CARRIER_RETURN_MAX
            && stays.iter().all(|stay| stay.is_phone)
        {
            return AddressKind::Mobile;
        }
        if devices > HOME_DEVICES_MAX
            || devices >= DEVICES_THAT_TELL && returning < home_return_min(days)
        {
            return AddressKind::Shared;
        }
        let hours =
            |of: fn(&Stay) -> u16| stays.iter().map(|stay| u32::from(of(stay))).sum::<u32>();
        let (work, other) = (
            hours(|stay| stay.work_hours),
            hours(|stay| stay.other_hours),
        );
        if devices >= OFFICE_DEVICES_MIN && work > OFFICE_WORK_HOURS * other {
            return AddressKind::Office;
        }
        AddressKind::Home
    }
}

/// Returns the share of devices of a home that have come back after that many days.
fn home_return_min(days: u16) -> f64 {
    let [(first_days, first), (last_days, last)] = HOME_RETURN_MIN;
    let days = f64::from(days.min(EPOCH_DAYS)).clamp(first_days, last_days);
    first + (last - first) * (days - first_days) / (last_days - first_days)
}

fn share(part: usize, of: usize) -> f64 {
    let count = |n: usize| f64::from(u32::try_from(n).unwrap_or(u32::MAX));
    if of == 0 {
        0.0
    } else {
        count(part) / count(of)
    }
}
