//! What happens: which device is seen when, and at which address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use fastrand::Rng;

use crate::people::{Mobility, Population, SimulatedDevice, Uplink, Work, exponential};
use crate::{Scenario, Score};

/// One hour of one day in which a device was seen at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Observation {
    /// The day, from 0.
    pub day: u16,
    /// The hour, local time.
    pub hour: u8,
    /// The device, as a place in [`World::devices`].
    pub device: u32,
    /// The address.
    pub address: IpAddr,
}

impl Observation {
    /// Returns a number for the address, or the IPv6 network, in an epoch: another one in each, as
    /// under a key.
    #[must_use]
    pub fn number(&self, epoch: u32) -> i64 {
        let bits = match self.address {
            IpAddr::V4(address) => u128::from(u32::from(address)),
            IpAddr::V6(address) => u128::from(address) >> 64,
        };
        let mixed = (bits ^ u128::from(epoch) << 64)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        let [first @ .., _, _, _, _, _, _, _, _] = mixed.to_be_bytes();
        i64::from_be_bytes(first)
    }
}

/// A country and what was seen in it.
#[derive(Debug)]
pub struct World {
    /// How it was made.
    pub scenario: Scenario,
    /// The devices, a new one wherever one gets new IDs.
    pub devices: Vec<SimulatedDevice>,
    /// What was seen, by day. Devices that do not permit to be linked are seen all the same: it is
    /// for the collector to leave them out.
    pub sightings: Vec<Observation>,
    /// On how many days each device was at home.
    days_at_home: Vec<u16>,
}

/// Where the parts of the net are. All of them lie in 10.0.0.0/8 and fd00::/8, which nobody routes.
const CARRIERS_NET: u32 = 0x0a00_0000;
const HOMES_NET: u32 = 0x0a40_0000;
const SHARED_NET: u32 = 0x0a80_0000;
const OFFICES_NET: u32 = 0x0a90_0000;
const PUBLIC_NET: u32 = 0x0aa0_0000;
const VPN_NET: u32 = 0x0ab0_0000;
/// The addresses that a carrier gives its phones.
const CARRIER_ADDRESSES: u32 = 40;
/// Cafés, hotels, trains: the places with a network for everybody.
const PUBLIC_PLACES: u32 = 60;

impl World {
    /// Simulates a country.
    #[must_use]
    pub fn new(scenario: Scenario) -> World {
        let mut rng = Rng::with_seed(scenario.seed);
        let population = Population::new(&scenario, &mut rng);
        let addresses = Addresses::new(&population, &scenario, &mut rng);
        let mut world = World {
            scenario,
            days_at_home: vec![0; population.devices.len()],
            devices: population.devices.clone(),
            sightings: Vec::new(),
        };
        for day in 0..scenario.days {
            world.live(day, &population, &addresses, &mut rng);
        }
        world
    }

    /// Returns the networks of carriers, as far as the operator knows them.
    #[must_use]
    pub fn is_known_carrier(&self, address: IpAddr) -> bool {
        let IpAddr::V4(address) = address else {
            return false;
        };
        let address = u32::from(address);
        self.scenario.knows_carriers && (CARRIERS_NET..HOMES_NET).contains(&address)
    }

    /// Returns what a collector notes: those who permit to be linked, and no known carrier.
    pub fn noted(&self) -> impl Iterator<Item = (&Observation, &SimulatedDevice)> {
        let seen = self.sightings.iter();
        let with_devices = seen.filter_map(|seen| {
            let device = self.devices.get(seen.device as usize)?;
            Some((seen, device))
        });
        with_devices.filter(|(seen, device)| device.links && !self.is_known_carrier(seen.address))
    }

    /// Returns how well households fit the truth: each is a list of devices.
    #[must_use]
    pub fn score(&self, households: &[Vec<u32>]) -> Score {
        /// A device that was at home on fewer days is not asked for.
        const DAYS_AT_HOME_MIN: u16 = 3;
        let is_asked_for = |device: &u32| {
            let at = *device as usize;
            let device = self.devices.get(at);
            let days = self.days_at_home.get(at).copied().unwrap_or(0);
            days >= DAYS_AT_HOME_MIN && device.is_some_and(|device| device.links)
        };
        let all = 0..u32::try_from(self.devices.len()).unwrap_or(u32::MAX);
        Score::new(
            all.filter(is_asked_for),
            |device| {
                self.devices
                    .get(device as usize)
                    .map_or(u32::MAX, |device| device.home)
            },
            households,
        )
    }

    fn live(&mut self, day: u16, population: &Population, addresses: &Addresses, rng: &mut Rng) {
        let is_weekend = day % 7 >= 5;
        // Where each person spends the evening, unless at home.
        let evenings: Vec<Option<Place>> = population
            .people
            .iter()
            .map(|person| {
                let friends = population.homes.get(person.home as usize)?.friends;
                match rng.f64() {
                    share if share < 0.02 => Some(Place::Public(rng.u32(0..PUBLIC_PLACES))),
                    share if share < 0.02 + 0.048 * self.scenario.visits => {
                        friends.get(rng.usize(0..3)).copied().map(Place::Home)
                    }
                    _ => None,
                }
            })
            .collect();
        for (at, device) in population.devices.iter().enumerate() {
            if !(device.days.0..device.days.1).contains(&day) || rng.f64() >= device.activity {
                continue;
            }
            let Ok(id) = u32::try_from(at) else {
                continue;
            };
            let mut was_at_home = false;
            for _ in 0..=rng.u32(0..3) {
                let hour = draw_hour(rng);
                let place = find_place(device, hour, is_weekend, population, &evenings, rng);
                was_at_home |= matches!(place, Place::Home(home) if home == device.home);
                self.sightings.push(Observation {
                    day,
                    hour,
                    device: id,
                    address: addresses.of(device, place, day, population, rng),
                });
            }
            if let Some(days) = self.days_at_home.get_mut(at) {
                *days += u16::from(was_at_home);
            }
        }
    }
}

/// Where a device is.
#[derive(Clone, Copy, Debug)]
enum Place {
    Home(u32),
    Office(u32),
    Public(u32),
    /// On its way, with the carrier's network.
    Road,
}

/// Draws an hour: people are seen in the evening most.
fn draw_hour(rng: &mut Rng) -> u8 {
    match rng.f64() {
        share if share < 0.12 => 6 + rng.u8(0..2),
        share if share < 0.47 => 8 + rng.u8(0..10),
        share if share < 0.97 => 18 + rng.u8(0..6),
        _ => rng.u8(0..6),
    }
}

fn find_place(
    device: &SimulatedDevice,
    hour: u8,
    is_weekend: bool,
    population: &Population,
    evenings: &[Option<Place>],
    rng: &mut Rng,
) -> Place {
    let home = Place::Home(device.home);
    if device.class == Mobility::Fixed {
        return home;
    }
    let at = device.person as usize;
    let Some(person) = population.people.get(at) else {
        return home;
    };
    // Some come early and some stay late.
    let begins = if rng.f64() < 0.2 { 7 } else { 8 };
    let ends = if rng.f64() < 0.1 { 20 } else { 18 };
    if (begins..ends).contains(&hour) && !is_weekend {
        let stays = device.class == Mobility::Portable && rng.f64() < 0.5;
        return match person.work {
            Work::Home => home,
            _ if stays => home,
            Work::Office(office) if rng.f64() < 0.8 => Place::Office(office),
            _ if rng.f64() < 0.15 => Place::Public(rng.u32(0..PUBLIC_PLACES)),
            _ => Place::Road,
        };
    }
    match evenings.get(at).copied().flatten() {
        // Portable devices are left at home more often than not.
        Some(place) if device.class == Mobility::Phone || rng.f64() < 0.3 => place,
        _ => home,
    }
}

/// The addresses of homes, by day.
struct Addresses {
    /// The number of each home's lease on each day.
    leases: Vec<Vec<u32>>,
    shared_from: u32,
}

impl Addresses {
    fn new(population: &Population, scenario: &Scenario, rng: &mut Rng) -> Addresses {
        let mut next = 0;
        let mut leases = Vec::with_capacity(population.homes.len());
        for _ in &population.homes {
            let mut days = Vec::with_capacity(scenario.days.into());
            while days.len() < scenario.days.into() {
                next += 1;
                let lasts = exponential(scenario.lease_days, rng);
                days.extend(std::iter::repeat_n(next, lasts.into()));
            }
            leases.push(days);
        }
        Addresses {
            leases,
            shared_from: SHARED_NET,
        }
    }

    fn of(
        &self,
        device: &SimulatedDevice,
        place: Place,
        day: u16,
        population: &Population,
        rng: &mut Rng,
    ) -> IpAddr {
        if device.uses_vpn {
            return v4(VPN_NET + rng.u32(0..8));
        }
        match place {
            // A phone may use its carrier wherever it is.
            Place::Home(home) if device.class != Mobility::Phone || rng.f64() < 0.75 => {
                self.of_home(home, day, population, rng)
            }
            Place::Office(office) => v4(OFFICES_NET + office),
            Place::Public(place) => v4(PUBLIC_NET + place),
            Place::Home(_) | Place::Road => {
                let carrier = population
                    .people
                    .get(device.person as usize)
                    .map_or(0, |person| person.carrier);
                v4(CARRIERS_NET + carrier * 0x1_0000 + rng.u32(0..CARRIER_ADDRESSES))
            }
        }
    }

    fn of_home(&self, home: u32, day: u16, population: &Population, rng: &mut Rng) -> IpAddr {
        let at = home as usize;
        let Some(here) = population.homes.get(at) else {
            return v4(0);
        };
        if here.has_ipv6 && rng.f64() < 0.5 {
            let network = 0xfd00_0000_0000_0000_0000_0000_0000_0000_u128;
            let host = u128::from(rng.u64(..));
            return IpAddr::V6(Ipv6Addr::from(network | u128::from(home) << 64 | host));
        }
        match here.line {
            Uplink::Shared(number) => v4(self.shared_from + number),
            Uplink::Own => {
                let lease = self.leases.get(at).and_then(|days| days.get(day as usize));
                v4(HOMES_NET + lease.copied().unwrap_or(0))
            }
        }
    }
}

fn v4(address: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(address))
}
