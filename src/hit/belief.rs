//! What is believed of a visitor: which devices are theirs, and whether they share a home. It is
//! what their own page shows and lets them contradict.

use super::permit::Permit;
use crate::clock::UnixMicros;

/// The most devices that a visitor's page shows.
pub(crate) const DEVICES_SHOWN_MAX: i64 = 40;

/// What a request must permit for groups and imported data to be shown.
pub(crate) const GROUPS_NEEDED: Permit = Permit::STORE.with(Permit::MEASURE).with(Permit::PROFILE);

/// What was asked about, and what the request itself permits: a page is told nothing of a visitor
/// that the request refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageScope {
    /// The site of the page.
    pub site: String,
    /// What the request's own signals permit.
    pub permit: Permit,
}

/// What is believed of a visitor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Beliefs {
    /// The devices that are believed to be theirs, those that were seen last first.
    pub devices: Vec<TiedDevice>,
    /// Whether the visitor has just said of a device that it is not theirs.
    pub has_parted: bool,
    /// Whether the visitor has just had a tie forgotten.
    pub has_forgotten: bool,
    /// What is believed of the visitor's home.
    pub home: HomeBelief,
    /// The groups that the visitor is in, and what is imported of them.
    pub groups: GroupBeliefs,
}

/// What groups a visitor is in, and what is imported of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupBeliefs {
    /// The groups, the oldest membership first.
    pub groups: Vec<GroupBelief>,
    /// What is imported and used today.
    pub attributes: Vec<AttributeBelief>,
    /// What the visitor objects to.
    pub objections: Vec<ObjectionBelief>,
    /// Whether the visitor said that they want to be in no group.
    pub is_never: bool,
    /// Whether the visitor has just left a group.
    pub has_left: bool,
    /// Whether the visitor has just objected to a supplier.
    pub has_objected: bool,
}

/// What a visitor objects to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ObjectionBelief {
    /// Being in a group.
    Group {
        /// Its number.
        number: i32,
        /// What it is called, in Swedish and in English.
        names: [String; 2],
    },
    /// That what a supplier says is used.
    Supplier {
        /// The number of one of its imports.
        import: i32,
        /// Its name.
        supplier: String,
    },
}

/// A group that a visitor is in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupBelief {
    /// Its number.
    pub number: i32,
    /// What it is called, in Swedish and in English.
    pub names: [String; 2],
    /// Who is in it, in Swedish and in English.
    pub reasons: [String; 2],
    /// Since when the visitor is.
    pub since: UnixMicros,
}

/// A fact that is imported of a visitor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttributeBelief {
    /// The number of the import.
    pub import: i32,
    /// Whom it comes from.
    pub supplier: String,
    /// On what ground it is used, by its name in manifests.
    pub legal_basis: String,
    /// The number of the attribute.
    pub attribute: i16,
    /// The value.
    pub value: String,
    /// When it was imported.
    pub changed_at: UnixMicros,
    /// The day from which on it is not used any more, since 1970.
    pub valid_until: i32,
}

/// A device, or an ID of one, that is believed to be a visitor's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TiedDevice {
    /// The ID as ties have it, which stays in the collector.
    pub node: [u8; 16],
    /// `visitor`, `maid`, `device_id` or `partner_uid`.
    pub kind: String,
    /// The partner, of a partner's ID; else empty.
    pub partner: String,
    /// Why: the kinds of ID that it shares with the visitor, with `user` for a login; `together`
    /// where both were named at once; empty where only several IDs lead to it.
    pub reasons: Vec<String>,
    /// The first and the last day of that, as days since 1970.
    pub days: (i32, i32),
}

/// What is believed of a visitor's home.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HomeBelief {
    /// Nothing is shown.
    #[default]
    Unknown,
    /// The visitor said that it is never to be computed.
    Never,
    /// It is shared.
    Shared {
        /// With how many other devices at least: 1 for one, 2 for two or three, 4 for more.
        others: u8,
        /// On how many days at least the devices were at home together.
        days: u16,
        /// Whether that was at more than one address.
        is_several: bool,
    },
}

/// What a visitor says of what is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// That a device is not theirs: the two are kept apart from then on.
    NotMine,
    /// That a tie is forgotten. It may be seen again.
    Forget,
    /// That their home is another one.
    LeaveHome,
    /// That their household is never computed.
    NeverHome,
    /// That they want to be out of a group, for good.
    LeaveGroup,
    /// That they want to be in no group.
    LeaveGroups,
    /// That what a supplier says of them is not used.
    RefuseSupplier,
    /// That they take back what they said against a group.
    TakeBackGroup,
    /// That they take back that they want to be in no group.
    TakeBackGroups,
    /// That they take back what they said against a supplier.
    TakeBackSupplier,
}
