//! Who lives where, and with which devices.

use fastrand::Rng;

use crate::Scenario;

/// What a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mobility {
    /// A phone: it goes wherever its owner goes, and has a carrier.
    Phone,
    /// A tablet or a laptop: it goes along at times.
    Portable,
    /// A television or a desktop: it stays at home.
    Fixed,
}

/// A device, for as long as it keeps its IDs.
#[derive(Clone, Copy, Debug)]
pub struct SimulatedDevice {
    /// The home that it belongs to.
    pub home: u32,
    /// The person who carries it; of a fixed one, anybody of the home.
    pub(crate) person: u32,
    /// What it is.
    pub class: Mobility,
    /// Whether it permits to be linked.
    pub links: bool,
    /// The share of days on which it is seen.
    pub(crate) activity: f64,
    /// Whether all that it sends goes through a VPN.
    pub(crate) uses_vpn: bool,
    /// The first day on which it has its IDs, and the one after the last.
    pub(crate) days: (u16, u16),
}

/// Where a person is on a working day.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Work {
    /// In an office.
    Office(u32),
    /// At home.
    Home,
    /// Elsewhere, without a network of their own.
    Away,
}

/// A person.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Person {
    pub(crate) home: u32,
    pub(crate) work: Work,
    /// The carrier of their phone.
    pub(crate) carrier: u32,
}

/// What connects a home to the net.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Uplink {
    /// An address of its own, for a while.
    Own,
    /// An address that homes with the same number share.
    Shared(u32),
}

/// A home.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Home {
    pub(crate) line: Uplink,
    pub(crate) has_ipv6: bool,
    /// Where its people go when they visit somebody.
    pub(crate) friends: [u32; 3],
}

/// Everybody.
#[derive(Debug, Default)]
pub(crate) struct Population {
    pub(crate) homes: Vec<Home>,
    pub(crate) people: Vec<Person>,
    pub(crate) devices: Vec<SimulatedDevice>,
    pub(crate) offices: u32,
}

/// How many carriers there are.
const CARRIERS: u32 = 4;
/// The homes that share an address, where they do.
const HOMES_OF_SHARED_ADDRESS: f64 = 32.0;
/// The share of homes that are rooms of a student house.
const STUDENT_HOMES: f64 = 0.02;
/// The share of devices that use a VPN.
const VPN: f64 = 0.03;
/// The share of devices that lose their IDs, and for how many days they keep them on average.
const CHURN: f64 = 0.15;
const CHURN_DAYS: f64 = 20.0;
/// How many people work in an office that is no micro-office.
const OFFICE_PEOPLE: u32 = 60;
const MICRO_OFFICE_PEOPLE: u32 = 3;

impl Population {
    pub(crate) fn new(scenario: &Scenario, rng: &mut Rng) -> Population {
        let mut population = Population::default();
        let mut offices = Offices::default();
        let sharing = f64::from(scenario.homes) * scenario.shared_addresses;
        let shared_addresses = whole(sharing / HOMES_OF_SHARED_ADDRESS).max(1);
        for home in 0..scenario.homes {
            let line = if rng.f64() < STUDENT_HOMES {
                Uplink::Shared(1_000_000 + home / 1_500)
            } else if rng.f64() < scenario.shared_addresses {
                Uplink::Shared(rng.u32(0..shared_addresses))
            } else {
                Uplink::Own
            };
            population.homes.push(Home {
                line,
                has_ipv6: rng.f64() < scenario.ipv6,
                friends: [(); 3].map(|()| rng.u32(0..scenario.homes)),
            });
            let (adults, children) = household(rng);
            for person in 0..adults + children {
                let is_adult = person < adults;
                population.add_person(home, is_adult, scenario, &mut offices, rng);
            }
            population.add_fixed(home, scenario, rng);
        }
        population.offices = offices.next;
        population
    }

    fn add_person(
        &mut self,
        home: u32,
        is_adult: bool,
        scenario: &Scenario,
        offices: &mut Offices,
        rng: &mut Rng,
    ) {
        let person = u32::try_from(self.people.len()).unwrap_or(u32::MAX);
        let work = match rng.f64() {
            share if !is_adult || share < 0.35 => Work::Away,
            share if share < 0.55 => Work::Home,
            _ => Work::Office(offices.join(scenario.micro_offices, rng)),
        };
        self.people.push(Person {
            home,
            work,
            carrier: rng.u32(0..CARRIERS),
        });
        let owned: [(Mobility, f64); 3] = if is_adult {
            [
                (Mobility::Phone, 1.0),
                (Mobility::Portable, 0.6),
                (Mobility::Portable, 0.3),
            ]
        } else {
            [
                (Mobility::Phone, 0.7),
                (Mobility::Portable, 0.4),
                (Mobility::Portable, 0.0),
            ]
        };
        for (class, share) in owned {
            if rng.f64() < share {
                self.add_device(home, person, class, scenario, rng);
            }
        }
    }

    fn add_fixed(&mut self, home: u32, scenario: &Scenario, rng: &mut Rng) {
        let person = u32::try_from(self.people.len().saturating_sub(1)).unwrap_or(u32::MAX);
        for share in [0.5, 0.25] {
            if rng.f64() < share {
                self.add_device(home, person, Mobility::Fixed, scenario, rng);
            }
        }
    }

    /// Adds a device: one for each time that it gets new IDs.
    fn add_device(
        &mut self,
        home: u32,
        person: u32,
        class: Mobility,
        scenario: &Scenario,
        rng: &mut Rng,
    ) {
        let mut device = SimulatedDevice {
            home,
            person,
            class,
            links: rng.f64() < scenario.consent,
            activity: 0.05 + 0.7 * rng.f64() * rng.f64().sqrt() * 1.25,
            uses_vpn: rng.f64() < VPN,
            days: (0, scenario.days),
        };
        if rng.f64() >= CHURN {
            self.devices.push(device);
            return;
        }
        let mut start = 0;
        while start < scenario.days {
            let end = (start + exponential(CHURN_DAYS, rng)).min(scenario.days);
            device.days = (start, end);
            self.devices.push(device);
            start = end;
        }
    }
}

/// Gives out places in offices.
#[derive(Default)]
struct Offices {
    next: u32,
    /// An office that is filling up, and how many places are left: ordinary, micro.
    open: [Option<(u32, u32)>; 2],
}

impl Offices {
    fn join(&mut self, micro: f64, rng: &mut Rng) -> u32 {
        let (at, people) = if rng.f64() < micro {
            (1, MICRO_OFFICE_PEOPLE)
        } else {
            (0, OFFICE_PEOPLE)
        };
        let Some(open) = self.open.get_mut(at) else {
            return 0;
        };
        let (office, left) = open
            .take()
            .filter(|(_, left)| *left > 0)
            .unwrap_or_else(|| {
                self.next += 1;
                (self.next, people)
            });
        *open = Some((office, left - 1));
        office
    }
}

/// Draws how many adults and children a home has.
fn household(rng: &mut Rng) -> (u32, u32) {
    match rng.f64() {
        share if share < 0.407 => (1, 0),
        share if share < 0.646 => (2, 0),
        share if share < 0.851 => (2, 1 + rng.u32(0..3)),
        share if share < 0.914 => (1, 1 + rng.u32(0..2)),
        _ => (2 + rng.u32(0..3), 0),
    }
}

/// Draws a whole number of days, at least 1, with about that mean.
pub(crate) fn exponential(mean: f64, rng: &mut Rng) -> u16 {
    let days = whole(-mean * (1.0 - rng.f64()).ln());
    u16::try_from(days.clamp(1, 10_000)).unwrap_or(1)
}

/// Returns the whole part of a number between 0 and 4 billion.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a number beyond the range becomes its end"
)]
fn whole(number: f64) -> u32 {
    number as u32
}
