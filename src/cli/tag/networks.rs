//! The networks' own macros, as their tags take them.

use crate::callback::names::Mapping;

/// A network, or a part of one with macros of its own.
pub(super) struct AdNetwork {
    pub(super) name: &'static str,
    /// What it fills in, by our parameter.
    pub(super) macros: &'static [(&'static str, &'static str)],
    /// What stands in front of a click URL, so that the network counts the click too.
    pub(super) click: &'static str,
    /// Whether it calls `nurl`, `burl` and `lurl`.
    pub(super) has_notices: bool,
}

const ADFORM: AdNetwork = AdNetwork {
    name: "Adform",
    macros: &[
        ("campaign", "__ADFCAMID__"),
        ("creative", "__ADFCREID__"),
        ("placement", "__ADFPLAID__"),
        ("publisher", "__ADFMEDID__"),
        ("advertiser", "__ADFADVID__"),
        ("size", "__ADFDIM__"),
        ("uid", "__ADFUID__"),
        ("cb", "__ADFRND__"),
    ],
    click: "%%c1;cpdir=%%",
    has_notices: false,
};

const AD_MANAGER: AdNetwork = AdNetwork {
    name: "Google Ad Manager",
    macros: &[
        ("creative", "%ecid!"),
        ("placement", "%%ADUNIT%%"),
        ("cb", "%%CACHEBUSTER%%"),
    ],
    click: "%%CLICK_URL_UNESC%%",
    has_notices: false,
};

const DV360: AdNetwork = AdNetwork {
    name: "DV360",
    macros: &[("campaign", "${CAMPAIGN_ID}"), ("cb", "${CACHEBUSTER}")],
    click: "${CLICK_URL}",
    has_notices: false,
};

const XANDR: AdNetwork = AdNetwork {
    name: "Xandr",
    macros: &[
        ("creative", "${CREATIVE_ID}"),
        ("placement", "${TAG_ID}"),
        ("uid", "${USER_ID}"),
        ("u", "${REFERER_URL_ENC}"),
        ("auction_id", "${AUCTION_ID}"),
        ("deal_id", "${DEAL_ID}"),
        ("price", "${PRICE_PAID}"),
        ("preview", "${IS_PREVIEW}"),
        ("cb", "${CACHEBUSTER}"),
    ],
    click: "${CLICK_URL}",
    has_notices: false,
};

const OPENRTB: AdNetwork = AdNetwork {
    name: "OpenRTB",
    macros: &[
        ("auction_id", "${AUCTION_ID}"),
        ("bid_id", "${AUCTION_BID_ID}"),
        ("imp_id", "${AUCTION_IMP_ID}"),
        ("seat_id", "${AUCTION_SEAT_ID}"),
        ("ad_id", "${AUCTION_AD_ID}"),
        ("price", "${AUCTION_PRICE}"),
        ("currency", "${AUCTION_CURRENCY}"),
    ],
    click: "",
    has_notices: true,
};

/// The networks of a mapping.
pub(super) fn of(mapping: Mapping) -> &'static [AdNetwork] {
    match mapping {
        Mapping::Adform => &[ADFORM],
        Mapping::Google => &[AD_MANAGER, DV360],
        Mapping::Xandr => &[XANDR],
        Mapping::OpenRtb => &[OPENRTB],
    }
}
