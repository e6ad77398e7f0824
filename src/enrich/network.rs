//! The dimension `network`: whose network a hit came from, by its IP address.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use maxminddb::MaxMindDbError;
use serde::Deserialize;

use super::geo::{Decode, GeoFile, GeoRecord, cut};
use super::{DeviceBudget, Find, NameScope, Problem, Tables};
use crate::hit::Hit;
use crate::row::Keyer;
use crate::row::dimension::{ColumnValues, Columns, Dimension, Keyed, ReadColumns, StandIn};

/// Whose network a hit came from. An empty name and `None` mean unknown.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(
    missing_docs,
    reason = "the fields are the columns of `avtryck.network`"
)]
pub struct Network {
    pub asn: Option<u32>,
    pub name: String,
}

impl Dimension for Network {
    const TABLE: &'static str = "network";

    fn columns(&self, to: &mut impl Columns) {
        to.integer("asn", self.asn);
        to.text("name", &self.name);
    }
}

impl ReadColumns for Network {
    fn read(from: &mut impl ColumnValues) -> Network {
        Network {
            asn: from.integer(),
            name: from.text(),
        }
    }
}

impl Find for Network {
    const NAMES_NOBODY: &'static str = "names of networks";

    type Found<'h> = Arc<Keyed<Network>>;

    fn find(tables: &Tables, hit: &Hit<'_>, _: &mut DeviceBudget) -> Option<Arc<Keyed<Network>>> {
        tables.network(hit.client_ip?)
    }

    fn stand_in(_: &NameScope<'_>, _: &Keyer) -> Option<StandIn> {
        None
    }
}

impl Tables {
    /// Returns the network of an address; `None` if no file knows it.
    #[must_use]
    pub fn network(&self, ip: IpAddr) -> Option<Arc<Keyed<Network>>> {
        let ip = ip.to_canonical();
        self.networks.iter().find_map(|file| file.look_up(ip))
    }
}

/// Opens a file of networks.
pub(super) fn open(path: &Path) -> Result<GeoFile<Network>, Problem> {
    GeoFile::open(path, "networks", |keys| {
        let is_one = keys.autonomous_system_number.is_some()
            || keys.autonomous_system_organization.is_some()
            || keys.isp.is_some();
        is_one.then_some(decode as Decode<Network>)
    })
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Owner<'a> {
    autonomous_system_number: Option<u32>,
    autonomous_system_organization: &'a str,
    isp: &'a str,
}

fn decode(record: &GeoRecord<'_>) -> Result<Network, MaxMindDbError> {
    let owner: Owner<'_> = record.decode()?.unwrap_or_default();
    let name = if owner.isp.is_empty() {
        owner.autonomous_system_organization
    } else {
        owner.isp
    };
    Ok(Network {
        asn: owner.autonomous_system_number,
        name: cut(name),
    })
}
