//! `[household]`: which devices share a home.

use std::collections::HashSet;

use ipnet::IpNet;

use super::table::keys;
use super::value;

keys! {
    /// `[household]`: which devices share a home, for sites with `household = true`.
    #[derive(Clone, Debug)]
    pub struct HouseholdConfig in [household] {
        /// Networks that give addresses to phones alone: whoever is there is not at home.
        reload mobile_asns: HashSet<u32> = list("numbers of autonomous systems", value::parse);
        /// The same for carriers whose phones are in part of a network.
        reload mobile_networks: Vec<IpNet> = list("networks such as 10.0.0.0/8", value::network);
        /// Networks that give each home an IPv6 /56. Elsewhere a /64 is a home: carriers give a
        /// /56 to many phones.
        reload ipv6_56_asns: HashSet<u32> = list("numbers of autonomous systems", value::parse);
        /// When households are computed, UTC.
        restart night: u16 = one("02:00", "a time such as 02:00", value::minute_of_day);
    }
}
