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
    /// Whether it fills in the consent macros of IAB Europe. One that does not would pass them on
    /// as they are, and a consent string that is no string permits nothing.
    pub(super) has_consent: bool,
    /// What it takes beside the click URL.
    pub(super) takes: Takes,
}

/// What a network takes beside a click URL.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    /// A pixel and VAST.
    PixelAndVast,
    /// A pixel.
    Pixel,
    /// Nothing: it shows no pixel of others.
    Nothing,
}

/// What most networks have.
const USUAL: AdNetwork = AdNetwork {
    name: "",
    macros: &[],
    click: "",
    has_notices: false,
    has_consent: true,
    takes: Takes::PixelAndVast,
};

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
    ..USUAL
};

const AD_MANAGER: AdNetwork = AdNetwork {
    name: "Google Ad Manager",
    macros: &[
        ("creative", "%ecid!"),
        ("placement", "%%ADUNIT%%"),
        ("cb", "%%CACHEBUSTER%%"),
    ],
    click: "%%CLICK_URL_UNESC%%",
    ..USUAL
};

const DV360: AdNetwork = AdNetwork {
    name: "DV360",
    macros: &[("campaign", "${CAMPAIGN_ID}"), ("cb", "${CACHEBUSTER}")],
    click: "${CLICK_URL}",
    ..USUAL
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
    ..USUAL
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
    has_notices: true,
    ..USUAL
};

const CM360: AdNetwork = AdNetwork {
    name: "Campaign Manager 360",
    macros: &[
        ("campaign", "%ebuy!"),
        ("creative", "%ecid!"),
        ("placement", "%epid!"),
        ("publisher", "%esid!"),
        ("advertiser", "%eadv!"),
        ("ad_id", "%eaid!"),
        ("cb", "%n"),
    ],
    click: "%c",
    ..USUAL
};

const TRADE_DESK: AdNetwork = AdNetwork {
    name: "The Trade Desk",
    macros: &[
        ("campaign", "%%TTD_CAMPAIGNID%%"),
        ("creative", "%%TTD_CREATIVEID%%"),
        ("placement", "%%TTD_ADGROUPID%%"),
        ("publisher", "%%TTD_SITE%%"),
        ("advertiser", "%%TTD_ADVERTISERID%%"),
        ("size", "%%TTD_ADFORMAT%%"),
        ("uid", "%%TTD_TDID%%"),
        ("imp_id", "%%TTD_IMPRESSIONID%%"),
        ("deal_id", "%%TTD_DEALID%%"),
        ("cb", "%%TTD_CACHEBUSTER%%"),
    ],
    click: "%%TTD_CLK%%",
    ..USUAL
};

/// Its parameters are filled in where a click leads, and it shows no pixels of others.
const META: AdNetwork = AdNetwork {
    name: "Meta",
    macros: &[
        ("campaign", "{{campaign.id}}"),
        ("creative", "{{ad.id}}"),
        ("placement", "{{placement}}"),
        ("publisher", "{{site_source_name}}"),
        ("ad_id", "{{adset.id}}"),
    ],
    has_consent: false,
    takes: Takes::Nothing,
    ..USUAL
};

const REVIVE: AdNetwork = AdNetwork {
    name: "Revive Adserver",
    macros: &[
        ("creative", "{bannerid}"),
        ("placement", "{zoneid}"),
        ("u", "{pageurl}"),
        ("cb", "{random}"),
    ],
    has_consent: false,
    takes: Takes::Pixel,
    ..USUAL
};

/// The networks of a mapping.
pub(super) fn of(mapping: Mapping) -> &'static [AdNetwork] {
    match mapping {
        Mapping::Adform => &[ADFORM],
        Mapping::Google => &[AD_MANAGER, DV360],
        Mapping::Xandr => &[XANDR],
        Mapping::OpenRtb => &[OPENRTB],
        Mapping::Cm360 => &[CM360],
        Mapping::TradeDesk => &[TRADE_DESK],
        Mapping::Meta => &[META],
        Mapping::Revive => &[REVIVE],
    }
}
