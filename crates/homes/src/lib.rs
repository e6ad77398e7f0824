//! Simulates homes, the devices in them, and the addresses at which those are seen, and knows the
//! truth: which devices share a home.
//!
//! It is for tests and measurements. Its parts are those that make households hard to find: leases
//! that end, carriers that share an address between thousands of phones, providers that share one
//! between homes, student houses, offices of three and of a hundred, cafés, hotels, VPNs, friends
//! who visit, people who travel, browsers that lose their cookies, homes with IPv6. How often each
//! of them occurs is in [`Scenario`]; what is not said there is a guess, and said to be one here:
//!
//! | what | share | from |
//! | --- | --- | --- |
//! | homes of one adult, of a couple, of a couple with children, of others | 41, 24, 21, 14 % | Statistics Sweden, households of 2021 |
//! | devices a home | 4.3 | a guess |
//! | days on which a device is seen at all | 5 to 75 %, 35 % on average | a guess |
//! | phones at home that use the carrier all the same | 25 % | a guess |
//! | people who work in an office, at home, elsewhere | 45, 20, 35 % | a guess |
//!
//! It tells which parts of a method carry weight, not how well it does among real homes.

mod people;
mod score;
mod world;

pub use people::{Mobility, SimulatedDevice};
pub use score::Score;
pub use world::{Observation, World};

/// What kind of country it is.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Fixes every random number.
    pub seed: u64,
    /// How many homes there are.
    pub homes: u32,
    /// For how many days they are watched. The first is a Monday.
    pub days: u16,
    /// The share of devices that permit to be linked.
    pub consent: f64,
    /// The share of homes that share their address with 31 others.
    pub shared_addresses: f64,
    /// How often people visit each other, as a multiple of once in three weeks.
    pub visits: f64,
    /// For how many days a home has its address, on average.
    pub lease_days: f64,
    /// The share of those who work in an office whose office is one of three people.
    pub micro_offices: f64,
    /// Whether the operator knows which addresses are carriers'.
    pub knows_carriers: bool,
    /// The share of homes that have IPv6 as well.
    pub ipv6: f64,
}

impl Scenario {
    /// The country that goals are set for.
    #[must_use]
    pub fn base(seed: u64) -> Scenario {
        Scenario {
            seed,
            homes: 2_500,
            days: 42,
            consent: 0.65,
            shared_addresses: 0.12,
            visits: 1.0,
            lease_days: 45.0,
            micro_offices: 0.1,
            knows_carriers: true,
            ipv6: 0.08,
        }
    }

    /// The base and what is hard about it, each with its name.
    #[must_use]
    pub fn stresses(seed: u64) -> [(&'static str, Scenario); 6] {
        let base = Scenario::base(seed);
        [
            (
                "30 % of homes behind a shared address",
                Scenario {
                    shared_addresses: 0.3,
                    ..base
                },
            ),
            (
                "three times as many visits",
                Scenario {
                    visits: 3.0,
                    ..base
                },
            ),
            (
                "leases of a week",
                Scenario {
                    lease_days: 7.0,
                    ..base
                },
            ),
            (
                "35 % consent",
                Scenario {
                    consent: 0.35,
                    ..base
                },
            ),
            (
                "half of the offices are micro-offices",
                Scenario {
                    micro_offices: 0.5,
                    ..base
                },
            ),
            (
                "no carrier known",
                Scenario {
                    knows_carriers: false,
                    ..base
                },
            ),
        ]
    }
}
