//! How many devices a batch may look up.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;

/// Devices that one batch looks up: 10,000 observed page views held 952 distinct user agents, and a
/// batch of a loader that is behind holds 80,000 hits.
const DEVICES_MAX: u32 = 8_192;
/// Those of them that the clients of one network may bring, so that no stranger spends it all.
const DEVICES_OF_NETWORK_MAX: u32 = 1_024;

/// How many devices a batch may still look up. What a hit's device costs then is bounded by the
/// batch, whatever its senders write into their agents and hints.
#[derive(Debug)]
pub struct DeviceBudget {
    left: u32,
    /// What each network has spent: its /24 or /48.
    spent: HashMap<Option<IpNet>, u32>,
}

impl DeviceBudget {
    /// Returns the budget of one batch.
    #[must_use]
    pub(crate) fn of_batch() -> DeviceBudget {
        DeviceBudget {
            left: DEVICES_MAX,
            spent: HashMap::new(),
        }
    }

    /// Spends one look-up for a client, and returns whether there was one left.
    pub(super) fn spend(&mut self, client: Option<IpAddr>) -> bool {
        if self.left == 0 {
            return false;
        }
        let network = client.and_then(|ip| {
            let bits = if ip.is_ipv4() { 24 } else { 48 };
            IpNet::new(ip, bits).ok().map(|network| network.trunc())
        });
        let spent = self.spent.entry(network).or_default();
        if *spent == DEVICES_OF_NETWORK_MAX {
            return false;
        }
        *spent += 1;
        self.left -= 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_cannot_spend_what_others_need_and_all_together_have_an_end() {
        let mut budget = DeviceBudget::of_batch();
        let client = |network: u8, host: u8| Some(IpAddr::from([198, 51, network, host]));
        let spend = |budget: &mut DeviceBudget, network| {
            (0..=255)
                .cycle()
                .take(5_000)
                .filter(|host| budget.spend(client(network, *host)))
                .count()
        };
        let spent: Vec<usize> = (0..10).map(|network| spend(&mut budget, network)).collect();
        assert_eq!(
            spent,
            [1024, 1024, 1024, 1024, 1024, 1024, 1024, 1024, 0, 0]
        );
        let mut budget = DeviceBudget::of_batch();
        let hosts = (0..5_000_u32).filter(|host| {
            let ip = 0x2001_0db8_u128 << 96 | u128::from(*host) << 64 | 1;
            budget.spend(Some(IpAddr::from(ip.to_be_bytes())))
        });
        assert_eq!(hosts.count(), 1024, "an IPv6 /48 is one network");
    }
}
