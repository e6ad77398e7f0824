//! Ties: which IDs were seen together, and the groups that follow from them.
//!
//! It is pure: no I/O, no clock. A [`Tie`] is evidence, and everything else is a function of the
//! ties that are stored, so that taking one away undoes what followed from it. Nothing here can be
//! made of a hit whose permit lacks `store`, `measure` or `link`, because a tie needs a
//! [`LinkPermit`], and only such a permit gives one.
//!
//! | ID | unites the IDs of a device? |
//! | --- | --- |
//! | visitor, MAID, device ID | yes |
//! | a partner's ID | where the partner's `id_type` is `browser` or `device` |
//! | user | never: a user owns devices |

pub mod group;
pub mod household;
mod recent;
mod tie;
mod tie_memory;
mod tie_value;

use crate::hit::Permit;
use crate::hit::subject::Subject;
pub use tie::{IdType, Ids, Tie, TieRules, Ties};
pub(crate) use tie::{is_own_word, is_refusal};
pub(crate) use tie_memory::{Novelty, TieMemory};

/// An ID among ties: a visitor's own, the key of any other
/// ([`Subject::key`](crate::hit::subject::Subject::key)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node(pub [u8; 16]);

impl Node {
    /// Returns the node of a subject.
    #[must_use]
    pub fn of(subject: &Subject<'_>) -> Node {
        match subject {
            Subject::Visitor(visitor) => Node(visitor.0),
            _ => Node(subject.key()),
        }
    }
}

/// The kind of an ID, with its number in SQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum NodeKind {
    /// The ID in the visitor cookie.
    Visitor = 1,
    /// A mobile advertising ID.
    Maid = 2,
    /// A sender's ID for a device.
    DeviceId = 3,
    /// A partner's ID.
    PartnerUid = 4,
    /// Who is logged in.
    User = 5,
}

impl NodeKind {
    /// Every kind, in the order of its number.
    pub const ALL: [NodeKind; 5] = [
        NodeKind::Visitor,
        NodeKind::Maid,
        NodeKind::DeviceId,
        NodeKind::PartnerUid,
        NodeKind::User,
    ];
}

/// A permit that allows ties.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkPermit(Permit);

impl LinkPermit {
    /// What a tie needs.
    pub(crate) const NEEDED: Permit = Permit::STORE.with(Permit::MEASURE).with(Permit::LINK);

    /// Takes a permit that has all that a tie needs; `None` for any other.
    #[must_use]
    pub fn new(permit: Permit) -> Option<LinkPermit> {
        permit
            .allows(LinkPermit::NEEDED)
            .then_some(LinkPermit(permit))
    }

    /// Returns the permit.
    #[must_use]
    pub fn permit(self) -> Permit {
        self.0
    }
}

/// How two IDs came together, with its number in SQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum TieSource {
    /// A hit named both.
    Hit = 0,
    /// They were exchanged.
    Sync = 1,
}
