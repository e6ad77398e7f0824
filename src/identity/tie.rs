//! Which ties a hit makes.
//!
//! The IDs of a hit are a star: one of them is the hub, to which each of the others is tied.
//!
//! | ID | is the hub where there is no | is tied if |
//! | --- | --- | --- |
//! | visitor | | always: our own signature proves the cookie |
//! | MAID | visitor | it is a UUID |
//! | device ID | visitor, MAID | it has eight characters |
//! | a partner's ID | visitor, MAID, device ID | it has eight characters, and its partner's `id_type` is `browser` or `device` |
//! | user | never | always: a login owns the device of the hub |
//!
//! A link from one site to another tells a second visitor ([`Hit::linked_visitor`]), which is tied
//! to the hit's own: nobody vouches for that, and it counts from when the link was followed, so
//! that what either of them refused since then holds.
//!
//! A partner whose IDs stand for a person (`id_type = "person"`) ties nothing. It would own devices
//! as a login does, but beside the login of the same person, and make every device a shared one.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap, HashSet};

use super::tie_value::{may_be_device, may_be_maid};
use super::{LinkPermit, Node, NodeKind, TieSource};
use crate::clock::UnixMicros;
use crate::hit::subject::Subject;
use crate::hit::{ConsentSource, Flags, Hit, Kind, Permit, UserKey};

/// The flags of hits that make no ties: a machine made them, nobody saw what they record, their
/// sender is one of too many, or their cookie belongs to one embedding site alone.
const WITHOUT_TIES: Flags = Flags::MACHINE
    .with(Flags::MAIL_PROXY)
    .with(Flags::OVER_LIMIT)
    .with(Flags::MACRO)
    .with(Flags::THIRD_PARTY)
    .with(Flags::UNCLEAR_CONSENT)
    .with(Flags::WRONG_CLOCK)
    .with(Flags::REPLAYED);

/// What a partner's IDs stand for (`id_type`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IdType {
    /// Nobody says.
    #[default]
    None,
    /// A browser.
    Browser,
    /// A device.
    Device,
    /// A person, on all devices.
    Person,
}

impl IdType {
    /// Returns the type with that name in the configuration.
    #[must_use]
    pub fn from_name(name: &str) -> Option<IdType> {
        match name {
            "none" => Some(IdType::None),
            "browser" => Some(IdType::Browser),
            "device" => Some(IdType::Device),
            "person" => Some(IdType::Person),
            _ => None,
        }
    }

    /// Checks whether two IDs that were seen with it are of one device.
    #[must_use]
    pub(crate) fn unites(self) -> bool {
        matches!(self, IdType::Browser | IdType::Device)
    }
}

/// What the configuration says of ties.
#[derive(Clone, Debug, Default)]
pub struct TieRules {
    id_types: HashMap<String, IdType>,
    /// In lower case.
    blocked: HashSet<String>,
    /// As they are written in the configuration.
    blocked_as_written: Vec<String>,
    blocked_users: HashSet<UserKey>,
}

impl TieRules {
    /// Makes rules of what partners' IDs stand for, by the partners' keys, and of the values that
    /// tie nothing: as senders write them, in any case, and as the hashes of users.
    #[must_use]
    pub fn new(
        id_types: impl IntoIterator<Item = (String, IdType)>,
        blocked: &[String],
        blocked_users: impl IntoIterator<Item = UserKey>,
    ) -> TieRules {
        TieRules {
            id_types: id_types.into_iter().collect(),
            blocked: blocked.iter().map(|value| value.to_lowercase()).collect(),
            blocked_as_written: blocked.to_vec(),
            blocked_users: blocked_users.into_iter().collect(),
        }
    }

    /// Returns the partners whose IDs unite a device.
    pub(crate) fn uniting_partners(&self) -> impl Iterator<Item = &str> {
        let partners = self.id_types.iter();
        let uniting = partners.filter(|(_, id_type)| id_type.unites());
        uniting.map(|(partner, _)| partner.as_str())
    }

    /// Returns the IDs that tie nothing. A value is blocked in any case, and an ID is known by its
    /// hash alone: these are the hashes of the value as it is written, in lower case and in upper
    /// case.
    pub(crate) fn blocked_nodes(&self) -> impl Iterator<Item = Node> {
        let written = self.blocked_as_written.iter();
        let values = written.flat_map(|value| {
            let values = [value.clone(), value.to_lowercase(), value.to_uppercase()];
            BTreeSet::from(values)
        });
        let of_values = values.flat_map(|value| {
            let uid = &*value;
            let partners = self.uniting_partners();
            let partners = partners.map(|partner| Subject::PartnerUid { partner, uid });
            let subjects = [Subject::Maid(uid), Subject::DeviceId(uid)];
            let subjects = partners.chain(subjects);
            subjects
                .map(|subject| Node::of(&subject))
                .collect::<Vec<_>>()
        });
        let users = self.blocked_users.iter();
        of_values.chain(users.map(|user| Node::of(&Subject::User(*user))))
    }

    fn allows(&self, value: &str) -> bool {
        self.blocked.is_empty() || !self.blocked.contains(&value.to_lowercase())
    }

    fn unites(&self, partner: &str) -> bool {
        self.id_types
            .get(partner)
            .is_some_and(|id_type| id_type.unites())
    }
}

/// The IDs of a hit that may stand for somebody, in the order in which they are the hub of a star:
/// visitor, MAID, device ID, partner's ID, user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ids(pub [Option<Node>; NodeKind::ALL.len()]);

impl Ids {
    /// Returns the IDs of a hit. Their hashes are made here, and nowhere else on a hit's way.
    #[must_use]
    pub fn of(hit: &Hit<'_>, rules: &TieRules) -> Ids {
        let node = |subject: Subject<'_>| Node::of(&subject);
        let named =
            |id: &str, may_be: fn(&str) -> bool| !id.is_empty() && may_be(id) && rules.allows(id);
        let partner = &*hit.partner;
        Ids([
            hit.visitor.map(|visitor| Node(visitor.0)),
            named(&hit.maid, may_be_maid).then(|| node(Subject::Maid(&hit.maid))),
            named(&hit.device_id, may_be_device).then(|| node(Subject::DeviceId(&hit.device_id))),
            (!partner.is_empty() && named(&hit.partner_uid, may_be_device)).then(|| {
                let uid = &*hit.partner_uid;
                node(Subject::PartnerUid { partner, uid })
            }),
            hit.user_key
                .filter(|user| !rules.blocked_users.contains(user))
                .map(|user| node(Subject::User(user))),
        ])
    }

    /// Returns each ID with its kind.
    pub fn each(&self) -> impl Iterator<Item = (NodeKind, Node)> {
        let kinds = NodeKind::ALL.into_iter().zip(self.0);
        kinds.filter_map(|(kind, node)| Some((kind, node?)))
    }

    /// Adds the ID of a kind.
    pub fn put(&mut self, kind: NodeKind, node: Node) {
        for (known, place) in NodeKind::ALL.into_iter().zip(&mut self.0) {
            if known == kind {
                *place = Some(node);
            }
        }
    }

    /// Removes the ID of a kind.
    pub fn remove(&mut self, kind: NodeKind) {
        for (known, node) in NodeKind::ALL.into_iter().zip(&mut self.0) {
            if known == kind {
                *node = None;
            }
        }
    }

    /// Returns whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }
}

/// Two IDs that one hit named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tie<'h> {
    /// The smaller ID.
    pub a: Node,
    /// The larger ID.
    pub b: Node,
    /// The kind of `a`.
    pub a_kind: NodeKind,
    /// The kind of `b`.
    pub b_kind: NodeKind,
    /// The key of the partner whose ID is among the two; empty where none is.
    pub partner: Cow<'h, str>,
    /// When the hit was received.
    pub at: UnixMicros,
    /// What allowed it.
    pub permit: LinkPermit,
    /// The signal that decided the permit.
    pub consent_source: ConsentSource,
    /// How they came together.
    pub source: TieSource,
    /// Whether a system, a signed callback or a site's signature vouches for it.
    pub is_proved: bool,
}

/// The ties of a hit: its IDs are a star, so there are as many as it has IDs beside the hub.
pub type Ties<'h> = [Option<Tie<'h>>; NodeKind::ALL.len() - 1];

impl<'h> Tie<'h> {
    /// The flags that are known only when a batch is committed, and take a row's ties away.
    pub(crate) const LATE: Flags = Flags::WRONG_CLOCK.with(Flags::REPLAYED);

    /// Returns the ties that a hit makes which has these flags, and these IDs.
    #[must_use]
    pub fn of(hit: &'h Hit<'_>, flags: Flags, ids: &Ids, rules: &TieRules) -> Ties<'h> {
        let mut ties = Ties::default();
        let Some(permit) = LinkPermit::new(hit.permit) else {
            return ties;
        };
        let voucher = Voucher::of(hit, flags);
        if flags.has_any(WITHOUT_TIES) || hit.kind == Kind::Callback && voucher != Voucher::All {
            return ties;
        }
        if let Some(linked) = hit.linked_visitor() {
            let own = hit.visitor.filter(|own| *own != linked);
            let ends = own.map(|own| (Node(own.0.min(linked.0)), Node(own.0.max(linked.0))));
            let [first, ..] = &mut ties;
            *first = ends.map(|(a, b)| Tie {
                a,
                b,
                a_kind: NodeKind::Visitor,
                b_kind: NodeKind::Visitor,
                partner: Cow::Borrowed(""),
                at: hit.occurred_at.unwrap_or(hit.received_at),
                permit,
                consent_source: hit.consent_source,
                source: TieSource::Sync,
                is_proved: false,
            });
            return ties;
        }
        let unites = |kind| kind != NodeKind::PartnerUid || rules.unites(&hit.partner);
        let mut star = ids.each().filter(|(kind, _)| unites(*kind));
        let Some(hub) = star.next().filter(|(kind, _)| *kind != NodeKind::User) else {
            return ties;
        };
        for (place, point) in ties.iter_mut().zip(star) {
            let ((a_kind, a), (b_kind, b)) = match hub.1 < point.1 {
                true => (hub, point),
                false => (point, hub),
            };
            let has_partner = [a_kind, b_kind].contains(&NodeKind::PartnerUid);
            *place = Some(Tie {
                a,
                b,
                a_kind,
                b_kind,
                partner: Cow::Borrowed(if has_partner { &*hit.partner } else { "" }),
                at: hit.received_at,
                permit,
                consent_source: hit.consent_source,
                source: match hit.kind {
                    Kind::Sync => TieSource::Sync,
                    _ => TieSource::Hit,
                },
                is_proved: voucher.covers(hub.0, point.0),
            });
        }
        ties
    }

    /// Returns the tie with a partner of its own.
    #[must_use]
    pub fn into_owned(self) -> Tie<'static> {
        Tie {
            partner: Cow::Owned(self.partner.into_owned()),
            ..self
        }
    }
}

/// Which IDs of a hit somebody vouches for. A browser proves its own visitor and no more: whatever
/// else it names may be another person's, unless it was signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Voucher {
    /// None but the visitor.
    Visitor,
    /// The visitor and this one, which its site or its partner signed.
    Signed(NodeKind),
    /// Each, because a server says so that has shown who it is.
    All,
}

impl Voucher {
    fn of(hit: &Hit<'_>, flags: Flags) -> Voucher {
        match (hit.kind, flags.has(Flags::PROVED)) {
            (Kind::Callback, true) => Voucher::All,
            (_, true) if flags.has(Flags::SYSTEM) => Voucher::All,
            (_, true) => Voucher::Signed(NodeKind::User),
            (Kind::Sync, false) if flags.has(Flags::SIGNED) => {
                Voucher::Signed(NodeKind::PartnerUid)
            }
            _ => Voucher::Visitor,
        }
    }

    /// Checks whether it covers a tie.
    fn covers(self, hub: NodeKind, point: NodeKind) -> bool {
        match self {
            Voucher::Visitor => false,
            Voucher::Signed(signed) => hub == NodeKind::Visitor && point == signed,
            Voucher::All => true,
        }
    }
}

/// Checks whether a signal is the subject's own word, and no default.
#[must_use]
pub(crate) fn is_own_word(source: ConsentSource) -> bool {
    match source {
        ConsentSource::Choice | ConsentSource::Gpc | ConsentSource::Tcf | ConsentSource::Gpp => {
            true
        }
        ConsentSource::Default | ConsentSource::Gdpr0 | ConsentSource::Unclear => false,
    }
}

/// Checks whether a permit is a refusal of ties: the subject itself, and no default, allowed to
/// store the ID and not to tie it.
#[must_use]
pub(crate) fn is_refusal(permit: Permit, source: ConsentSource) -> bool {
    is_own_word(source) && permit.allows(Permit::STORE) && !permit.allows(LinkPermit::NEEDED)
}

#[cfg(test)]
mod tests;
