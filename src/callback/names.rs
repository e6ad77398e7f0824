//! What partners call things: their names -> ours, as in docs/parameters.md. A member of a JSON
//! object within an object is named by its path, `device.ifa`.

use std::borrow::Cow;

/// A network's names that are known without a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mapping {
    /// Adform.
    Adform,
    /// Google Ad Manager, Campaign Manager and DV360.
    Google,
    /// Xandr.
    Xandr,
    /// Plain OpenRTB.
    OpenRtb,
    /// Campaign Manager 360.
    Cm360,
    /// The Trade Desk.
    TradeDesk,
    /// Meta's ads.
    Meta,
    /// Revive Adserver.
    Revive,
}

impl Mapping {
    /// Every mapping.
    pub const ALL: [Mapping; 8] = [
        Mapping::Adform,
        Mapping::Google,
        Mapping::Xandr,
        Mapping::OpenRtb,
        Mapping::Cm360,
        Mapping::TradeDesk,
        Mapping::Meta,
        Mapping::Revive,
    ];

    /// Returns the mapping's word in the configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Mapping::Adform => "adform",
            Mapping::Google => "google",
            Mapping::Xandr => "xandr",
            Mapping::OpenRtb => "openrtb",
            Mapping::Cm360 => "cm360",
            Mapping::TradeDesk => "ttd",
            Mapping::Meta => "meta",
            Mapping::Revive => "revive",
        }
    }

    /// Returns the mapping of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Mapping> {
        Mapping::ALL
            .into_iter()
            .find(|mapping| mapping.name() == name)
    }

    fn names(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Mapping::Adform => &ADFORM,
            Mapping::Google => &GOOGLE,
            Mapping::Xandr => &XANDR,
            Mapping::OpenRtb => &OPENRTB,
            Mapping::Cm360 => &CM360,
            Mapping::TradeDesk => &TRADE_DESK,
            Mapping::Meta => &META,
            Mapping::Revive => &REVIVE,
        }
    }
}

const ADFORM: [(&str, &str); 17] = [
    ("campaignid", "campaign"),
    ("bannerid", "creative"),
    ("creativeid", "creative"),
    ("placementid", "placement"),
    ("mediaid", "publisher"),
    ("advertiserid", "advertiser"),
    ("cookieid", "uid"),
    ("mobileadvertisingid", "maid"),
    ("eventtype", "ev"),
    ("eventid", "id"),
    ("transactionid", "id"),
    ("orderid", "order_id"),
    ("sales", "value"),
    ("dimensions", "size"),
    ("consentstring", "gdpr_consent"),
    ("ipaddress", "client_ip"),
    ("useragent", "user_agent"),
];

const GOOGLE: [(&str, &str); 16] = [
    ("campaign_id", "campaign"),
    ("creative_id", "creative"),
    ("placement_id", "placement"),
    ("site_id", "publisher"),
    ("publisher_id", "publisher"),
    ("google_gid", "uid"),
    ("user_id", "uid"),
    ("rdid", "maid"),
    ("is_lat", "lat"),
    ("event_type", "ev"),
    ("event_id", "id"),
    ("transaction_id", "id"),
    ("ord", "order_id"),
    ("cost", "value"),
    ("gdpr_applies", "gdpr"),
    ("ip_address", "client_ip"),
];

const XANDR: [(&str, &str); 18] = [
    ("campaign_id", "campaign"),
    ("line_item_id", "campaign"),
    ("creative_id", "creative"),
    ("tag_id", "placement"),
    ("placement_id", "placement"),
    ("publisher_id", "publisher"),
    ("user_id_64", "uid"),
    ("user_id", "uid"),
    ("device_unique_id", "maid"),
    ("auction_id_64", "auction_id"),
    ("price_paid", "price"),
    ("event_type", "ev"),
    ("event_id", "id"),
    ("order_value", "value"),
    ("is_preview", "preview"),
    ("gdpr_applies", "gdpr"),
    ("consent_string", "gdpr_consent"),
    ("ip_address", "client_ip"),
];

const OPENRTB: [(&str, &str); 24] = [
    ("id", "auction_id"),
    ("bidid", "bid_id"),
    ("impid", "imp_id"),
    ("seat", "seat_id"),
    ("seatid", "seat_id"),
    ("adid", "ad_id"),
    ("cid", "campaign"),
    ("crid", "creative"),
    ("tagid", "placement"),
    ("cur", "currency"),
    ("lossreason", "loss"),
    ("event", "ev"),
    ("eventid", "id"),
    ("buyeruid", "uid"),
    ("user.buyeruid", "uid"),
    ("ifa", "maid"),
    ("device.ifa", "maid"),
    ("device.lmt", "lat"),
    ("device.ip", "client_ip"),
    ("device.ua", "user_agent"),
    ("site.publisher.id", "publisher"),
    ("app.publisher.id", "publisher"),
    ("regs.gdpr", "gdpr"),
    ("user.consent", "gdpr_consent"),
];

const CM360: [(&str, &str); 8] = [
    ("campaign_id", "campaign"),
    ("creative_id", "creative"),
    ("placement_id", "placement"),
    ("site_id", "publisher"),
    ("advertiser_id", "advertiser"),
    ("ord", "order_id"),
    ("cost", "value"),
    ("gdpr_applies", "gdpr"),
];

const TRADE_DESK: [(&str, &str); 9] = [
    ("campaignid", "campaign"),
    ("creativeid", "creative"),
    ("adgroupid", "placement"),
    ("publisherid", "publisher"),
    ("advertiserid", "advertiser"),
    ("adformat", "size"),
    ("impressionid", "imp_id"),
    ("tdid", "uid"),
    ("dealid", "deal_id"),
];

const META: [(&str, &str); 4] = [
    ("campaign_id", "campaign"),
    ("ad_id", "creative"),
    ("adset_id", "ad_id"),
    ("site_source_name", "publisher"),
];

const REVIVE: [(&str, &str); 5] = [
    ("campaignid", "campaign"),
    ("bannerid", "creative"),
    ("zoneid", "placement"),
    ("affiliateid", "publisher"),
    ("clientid", "advertiser"),
];

/// Members of a callback that say who the visitor is or where, and for which we have no name. They
/// do not become parameters, because parameters stay when the permit takes such things from a hit
/// (OpenRTB 2.6, sections 3.2.18 to 3.2.20 and 3.2.27).
const PERSONAL: [&str; 11] = [
    "device", "user", "geo", "eids", "ip", "ipv6", "ifa", "didsha1", "didmd5", "dpidsha1",
    "dpidmd5",
];

/// Returns whether a member, given by its path, or one that it lies in is one of [`PERSONAL`].
pub(crate) fn is_personal(path: &str) -> bool {
    path.split('.').any(|name| {
        PERSONAL
            .iter()
            .any(|known| known.eq_ignore_ascii_case(name))
    })
}

/// The names of one partner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fields<'n> {
    /// The names in the configuration, which outweigh the mapping's.
    pub own: &'n [(String, String)],
    /// The names of a network.
    pub mapping: Option<Mapping>,
}

impl Fields<'_> {
    fn all(&self) -> impl Iterator<Item = (&str, &str)> {
        let ready = self.mapping.map_or(&[][..], Mapping::names);
        let own = self.own.iter();
        own.map(|(theirs, ours)| (theirs.as_str(), ours.as_str()))
            .chain(ready.iter().copied())
    }

    /// Returns our name for theirs, or their own where we have none. Case makes no difference.
    pub(crate) fn our_name<'t>(&self, theirs: Cow<'t, str>) -> Cow<'t, str> {
        match self
            .all()
            .find(|(known, _)| known.eq_ignore_ascii_case(&theirs))
        {
            Some((_, ours)) => Cow::Owned(ours.to_owned()),
            None => theirs,
        }
    }

    /// Returns whether a name stands for something within the member of that path.
    pub(crate) fn reach_into(&self, path: &str) -> bool {
        self.all().any(|(known, _)| {
            known
                .split_at_checked(path.len())
                .is_some_and(|(start, rest)| {
                    start.eq_ignore_ascii_case(path) && rest.starts_with('.')
                })
        })
    }
}
