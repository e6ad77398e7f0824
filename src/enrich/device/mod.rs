//! The dimension `device`: on what device a hit was made, by user agent and client hints.

mod budget;
mod hints;
mod recognise;
mod rules;

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use quick_cache::sync::Cache;
use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128_with_seed};

pub use budget::DeviceBudget;
use recognise::Agent;
pub(super) use recognise::DeviceRules;

use super::{Find, NameScope, Tables};
use crate::hit::{Hints, Hit};
use crate::row::Keyer;
use crate::row::dimension::{ColumnValues, Columns, Dimension, Keyed, ReadColumns, StandIn};

/// Devices kept by user agent and hints. 10,000 observed page views held 952 distinct user agents.
const DEVICES_CACHED_MAX: usize = 16_384;
/// User agents kept without hints.
const AGENTS_CACHED_MAX: usize = 8_192;

/// What kind of thing a device is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the words are their own explanation")]
pub enum DeviceClass {
    Phone,
    Tablet,
    Desktop,
    Tv,
    Console,
    Car,
    Watch,
    MailProxy,
    Bot,
    #[default]
    Other,
}

impl DeviceClass {
    /// Every class.
    const ALL: [DeviceClass; 10] = [
        DeviceClass::Phone,
        DeviceClass::Tablet,
        DeviceClass::Desktop,
        DeviceClass::Tv,
        DeviceClass::Console,
        DeviceClass::Car,
        DeviceClass::Watch,
        DeviceClass::MailProxy,
        DeviceClass::Bot,
        DeviceClass::Other,
    ];

    /// Returns the class of a word in SQL.
    #[must_use]
    pub fn from_name(name: &str) -> Option<DeviceClass> {
        let mut all = DeviceClass::ALL.into_iter();
        all.find(|class| class.name() == name)
    }

    /// Returns the word in SQL.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            DeviceClass::Phone => "phone",
            DeviceClass::Tablet => "tablet",
            DeviceClass::Desktop => "desktop",
            DeviceClass::Tv => "tv",
            DeviceClass::Console => "console",
            DeviceClass::Car => "car",
            DeviceClass::Watch => "watch",
            DeviceClass::MailProxy => "mail_proxy",
            DeviceClass::Bot => "bot",
            DeviceClass::Other => "other",
        }
    }
}

/// On what device a hit was made. Empty texts mean unknown.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(
    missing_docs,
    reason = "the fields are the columns of `avtryck.device`"
)]
pub struct Device {
    pub class: DeviceClass,
    pub brand: String,
    pub model: String,
    pub os: String,
    pub os_version: String,
    pub browser: String,
    pub browser_version: String,
    pub is_bot: bool,
}

impl Dimension for Device {
    const TABLE: &'static str = "device";

    fn columns(&self, to: &mut impl Columns) {
        to.text("class", self.class.name());
        to.text("brand", &self.brand);
        to.text("model", &self.model);
        to.text("os", &self.os);
        to.text("os_version", &self.os_version);
        to.text("browser", &self.browser);
        to.text("browser_version", &self.browser_version);
        to.boolean("is_bot", self.is_bot);
    }
}

impl ReadColumns for Device {
    fn read(from: &mut impl ColumnValues) -> Device {
        Device {
            // A class of a later version is another one.
            class: DeviceClass::from_name(&from.text()).unwrap_or_default(),
            brand: from.text(),
            model: from.text(),
            os: from.text(),
            os_version: from.text(),
            browser: from.text(),
            browser_version: from.text(),
            is_bot: from.boolean(),
        }
    }
}

impl Find for Device {
    const NAMES_NOBODY: &'static str = "models";

    type Found<'h> = Arc<Keyed<Device>>;

    fn find(
        tables: &Tables,
        hit: &Hit<'_>,
        budget: &mut DeviceBudget,
    ) -> Option<Arc<Keyed<Device>>> {
        let spend = || budget.spend(hit.client_ip);
        Some(tables.look_up_device(&hit.user_agent, &hit.hints, spend))
    }

    fn stand_in(named: &NameScope<'_>, keyer: &Keyer) -> Option<StandIn> {
        let scope = named.site.to_owned();
        Some(StandIn::new(scope, keyer, &Device::default()))
    }
}

/// The devices that were found already.
pub(super) struct CachedDevices {
    devices: Cache<u128, Arc<Keyed<Device>>>,
    agents: Cache<u128, Arc<Agent>>,
    /// What stands for a device that was not looked up.
    later: Arc<Keyed<Device>>,
    /// The seed of the cache's hashes: nobody outside knows which devices share one.
    seed: u64,
}

impl Default for CachedDevices {
    fn default() -> CachedDevices {
        CachedDevices {
            devices: Cache::new(DEVICES_CACHED_MAX),
            agents: Cache::new(AGENTS_CACHED_MAX),
            later: Arc::new(Keyed::new(Device::default())),
            seed: RandomState::new().hash_one(()),
        }
    }
}

impl CachedDevices {
    /// Returns whether a device was not looked up, because the budget of its batch was spent.
    pub(super) fn is_later(&self, device: &Arc<Keyed<Device>>) -> bool {
        Arc::ptr_eq(device, &self.later)
    }
}

impl Tables {
    /// Returns the device that a user agent and client hints describe, whatever that costs. What
    /// neither tells is empty.
    #[must_use]
    pub fn device(&self, user_agent: &str, hints: &Hints<'_>) -> Arc<Keyed<Device>> {
        self.look_up_device(user_agent, hints, || true)
    }

    /// Returns the same if it is known or the rules may be asked; otherwise the device is "later".
    fn look_up_device(
        &self,
        user_agent: &str,
        hints: &Hints<'_>,
        may_ask: impl FnOnce() -> bool,
    ) -> Arc<Keyed<Device>> {
        let cached = &self.cached_devices;
        let key = cache_key(user_agent, hints, cached.seed);
        if let Some(device) = cached.devices.get(&key) {
            return device;
        }
        let Some(device) = self.recognise(user_agent, hints, may_ask) else {
            return Arc::clone(&cached.later);
        };
        let device = Arc::new(Keyed::new(device));
        cached.devices.insert(key, Arc::clone(&device));
        device
    }

    /// Finds a device by the rules. What an agent says without hints is found once, so that other
    /// hints cost little.
    #[inline(never)]
    fn recognise(
        &self,
        user_agent: &str,
        hints: &Hints<'_>,
        may_ask: impl FnOnce() -> bool,
    ) -> Option<Device> {
        if user_agent.trim().is_empty() {
            return Some(Device::default());
        }
        let rules = self.device_rules.as_deref();
        let agents = &self.cached_devices.agents;
        let key = xxh3_128_with_seed(user_agent.as_bytes(), self.cached_devices.seed);
        if let Some(agent) = agents.get(&key) {
            return recognise::recognise(rules, &agent, hints, may_ask);
        }
        if !may_ask() {
            return None;
        }
        let agent = Arc::new(Agent::read(rules, user_agent, |agent| self.sender(agent)));
        agents.insert(key, Arc::clone(&agent));
        recognise::recognise(rules, &agent, hints, || true)
    }
}

/// Returns the key of a device in the cache: 128 bits of hash for the agent, seeded with 64 for the
/// hints. Two devices share a key by chance once in 2^64 pairs, and nobody outside knows the seed.
/// No text is kept or compared, because each would be fetched from elsewhere in memory.
fn cache_key(user_agent: &str, hints: &Hints<'_>, seed: u64) -> u128 {
    let mobile: &[u8] = match hints.mobile {
        None => b"",
        Some(false) => b"0",
        Some(true) => b"1",
    };
    let texts = [
        hints.brands.as_bytes(),
        mobile,
        hints.platform.as_bytes(),
        hints.platform_version.as_bytes(),
        hints.model.as_bytes(),
        hints.form_factors.as_bytes(),
    ];
    let mut seed = seed;
    for text in texts {
        // Tells which text it is. Most are empty.
        seed = seed.wrapping_add(1);
        if !text.is_empty() {
            seed = xxh3_64_with_seed(text, seed);
        }
    }
    xxh3_128_with_seed(user_agent.as_bytes(), seed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, reason = "a test fails by panicking")]

    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_device_is_cached_by_each_of_its_texts_and_by_which_text_it_is() {
        let hinted = |brands: &'static str, mobile, model: &'static str| Hints {
            brands: brands.into(),
            mobile,
            model: model.into(),
            ..Hints::default()
        };
        let all = [
            ("ab", hinted("", None, "")),
            ("a", hinted("b", None, "")),
            ("a", hinted("", None, "b")),
            ("", hinted("ab", None, "")),
            ("ab", hinted("", Some(false), "")),
            ("ab", hinted("", Some(true), "")),
        ];
        let keys: HashSet<u128> = all
            .iter()
            .map(|(agent, hints)| cache_key(agent, hints, 1))
            .collect();
        assert_eq!(keys.len(), all.len());
        let (agent, hints) = &all[0];
        assert!(keys.contains(&cache_key(agent, hints, 1)));
        assert!(!keys.contains(&cache_key(agent, hints, 2)));
    }
}
