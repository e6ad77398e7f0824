//! What is believed of a visitor, on their page: the devices that proved ties lead to, and the
//! home.
//!
//! It is shown only where the request itself permits it: `link` for devices, `link` and `locate`
//! for the home. No ID of another device reaches the browser. A form names a device by a handle, a
//! MAC over the visitor and the device, so nobody can name one that their page does not show.

use super::{Form, PrivacyRequest, time};
use crate::clock::UnixMicros;
use crate::config::Site;
use crate::edge::Refusal;
use crate::edge::exchange::reply::Reply;
use crate::edge::text::{Language, Text, fill};
use crate::edge::transport::limits::subscriber;
use crate::hit::belief::{HomeBelief, TiedDevice, Wish};
use crate::hit::subject::Held;
use crate::hit::{Permit, VisitorId};
use crate::inquiry::{ANSWER_TIME_MAX, Busy, Contradiction};
use crate::refusal::Reason;

/// What a request must permit for devices to be shown.
const FOR_DEVICES: Permit = Permit::STORE.with(Permit::MEASURE).with(Permit::LINK);
/// The same for the home.
const FOR_HOME: Permit = FOR_DEVICES.with(Permit::LOCATE);

const DAY_MICROS: i64 = 86_400_000_000;

/// What a form wants, by the value of its button.
const WISHES: [(&str, Form, Wish); 10] = [
    ("not_mine", Form::Device, Wish::NotMine),
    ("forget", Form::Device, Wish::Forget),
    ("leave", Form::Home, Wish::LeaveHome),
    ("never", Form::Home, Wish::NeverHome),
    ("leave_group", Form::Group, Wish::LeaveGroup),
    ("leave_groups", Form::Group, Wish::LeaveGroups),
    ("object", Form::Source, Wish::RefuseSupplier),
    ("take_back_group", Form::Group, Wish::TakeBackGroup),
    ("take_back_groups", Form::Group, Wish::TakeBackGroups),
    ("take_back_object", Form::Source, Wish::TakeBackSupplier),
];

/// What an address has in place of a wish that was done, where nothing was.
pub(super) const NOTHING_DONE: &str = "nothing";

/// Returns the wish that a button is for.
pub(super) fn find_wish(name: &str) -> Option<Wish> {
    let found = WISHES.iter().find(|(known, ..)| *known == name);
    found.map(|(.., wish)| *wish)
}

/// A device that is believed to be the visitor's.
pub(super) struct ShownDevice {
    pub(super) handle: String,
    pub(super) name: String,
    pub(super) why: String,
    pub(super) since: String,
}

/// What is believed of the visitor's home.
pub(super) enum ShownHome {
    Nothing,
    Never,
    Shared(String),
}

impl PrivacyRequest<'_> {
    /// Returns the devices that are shown; `None` where the request does not permit it, or where
    /// nothing is known of this browser.
    pub(super) fn show_devices(&self, permit: Permit, held: &[Held]) -> Option<Vec<ShownDevice>> {
        if held.is_empty() || !permit.allows(FOR_DEVICES) {
            return None;
        }
        let keyring = &self.request.edge.keyring;
        let mut shown = Vec::new();
        for (proved, held) in self.proved.iter().zip(held) {
            for device in &held.beliefs.devices {
                if let Some(handle) = keyring.device_handle(proved.visitor, device.node) {
                    shown.push(show_device(device, handle, self.language));
                }
            }
        }
        Some(shown)
    }

    /// Returns what is shown of the home; `None` as for devices, and where the site has no
    /// households and nothing is known of one.
    pub(super) fn show_home(
        &self,
        site: &Site,
        permit: Permit,
        held: &[Held],
    ) -> Option<ShownHome> {
        if held.is_empty() || !permit.allows(FOR_HOME) {
            return None;
        }
        let mut homes = held.iter().map(|held| &held.beliefs.home);
        let known = homes.find(|home| **home != HomeBelief::Unknown);
        match known.unwrap_or(&HomeBelief::Unknown) {
            HomeBelief::Never => Some(ShownHome::Never),
            HomeBelief::Unknown => site.household.then_some(ShownHome::Nothing),
            HomeBelief::Shared {
                others,
                days,
                is_several,
            } => {
                let of = (*others, *days, *is_several);
                let sentence = home_sentence(self.language.text(), of);
                Some(ShownHome::Shared(sentence))
            }
        }
    }

    /// Has what the visitor says done, and redirects to the page. A handle or a number of
    /// nothing that the page shows does nothing, and the page that follows says so.
    pub(super) async fn contradict(
        &self,
        site: &Site,
        form: Form,
        (wish, handle, number): (Option<Wish>, &str, i32),
    ) -> Result<Reply, Refusal> {
        let found = WISHES
            .iter()
            .find(|(_, of, known)| *of == form && Some(*known) == wish);
        let (name, _, wish) = found.ok_or(Refusal(Reason::Form))?;
        let edge = self.request.edge;
        let mut done = NOTHING_DONE;
        if !self.proved.is_empty() {
            if !self.spend_view() {
                return Err(Refusal(Reason::OverLimit));
            }
            let (keyring, handle) = (edge.keyring.clone(), handle.to_owned());
            let contradiction = Contradiction {
                wish: *wish,
                number,
                is_meant: Box::new(move |visitor: VisitorId, node: [u8; 16]| {
                    keyring.is_device_handle(visitor, node, &handle)
                }),
            };
            let visitors = self.proved.iter().map(|proved| proved.visitor).collect();
            let client = subscriber(self.request.client);
            let answered =
                edge.inquirer
                    .contradict(visitors, self.scope(site), contradiction, client);
            let answered = answered.map_err(|Busy| Refusal(Reason::Busy))?;
            match tokio::time::timeout(ANSWER_TIME_MAX, answered).await {
                Ok(Ok(Ok(answer))) if answer.is_empty() => {}
                Ok(Ok(Ok(_))) => done = name,
                Ok(Ok(Err(Busy))) => return Err(Refusal(Reason::Busy)),
                Ok(Err(_)) | Err(_) => return Err(Refusal(Reason::DatabaseAway)),
            }
        }
        Ok(self.redirect(Vec::new(), done))
    }
}

fn show_device(device: &TiedDevice, handle: String, language: Language) -> ShownDevice {
    let t = language.text();
    let word = |words: &[(&str, &'static str)], of: &str| {
        let found = words.iter().find(|(name, _)| *name == of);
        found.map_or("", |(_, word)| *word)
    };
    let reasons: Vec<&str> = t
        .tie_reasons
        .iter()
        .filter(|(name, _)| device.reasons.iter().any(|reason| reason == name))
        .map(|(_, reason)| *reason)
        .collect();
    let why = match &*reasons {
        [] => t.tie_indirect.to_owned(),
        reasons => reasons.join(", "),
    };
    // Midnight UTC is the same day in Sweden.
    let day = |day: i32| time::day(UnixMicros(i64::from(day) * DAY_MICROS), language);
    let (first, last) = device.days;
    ShownDevice {
        handle,
        name: fill(word(&t.tied_kinds, &device.kind), &device.partner),
        why: fill(t.tied_because, &why),
        since: fill(&fill(t.tied_since, &day(first)), &day(last)),
    }
}

fn home_sentence(t: &Text, (others, days, is_several): (u8, u16, bool)) -> String {
    let [one, few, many] = t.home_others;
    let others = match others {
        1 => one,
        2 | 3 => few,
        _ => many,
    };
    let [a_day, more] = t.home_days;
    let days = match days {
        0 | 1 => a_day.to_owned(),
        days => fill(more, &days.to_string()),
    };
    let [at_one, at_several] = t.home_addresses;
    let addresses = if is_several { at_several } else { at_one };
    fill(&fill(&fill(t.home_shared, others), &days), addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_is_told_in_steps_and_never_in_exact_numbers() {
        let of = |language: Language, known| home_sentence(language.text(), known);
        assert_eq!(
            of(Language::English, (1, 1, false)),
            "We believe that this device shares a home with one other device, because they were at home \
             together on at least one day, at one and the same address."
        );
        let of_two = of(Language::Swedish, (2, 14, true));
        assert!(of_two.contains("2 till 3 andra enheter"), "{of_two}");
        assert!(of_two.contains("minst 14 dagar"), "{of_two}");
        assert_eq!(of_two, of(Language::Swedish, (3, 14, true)));
        let many = of(Language::Swedish, (4, 60, false));
        assert!(many.contains("4 eller fler andra enheter"), "{many}");
        for language in Language::ALL {
            let sentence = of(language, (4, 60, true));
            assert!(!sentence.contains("{}"), "{sentence}");
        }
    }

    #[test]
    fn a_device_is_named_with_each_reason_in_words() {
        let device = TiedDevice {
            node: [7; 16],
            kind: "partner_uid".to_owned(),
            partner: "adform".to_owned(),
            reasons: vec!["user".to_owned(), "together".to_owned()],
            days: (20_000, 20_100),
        };
        for language in Language::ALL {
            let shown = show_device(&device, "handle".to_owned(), language);
            assert!(shown.name.contains("adform"), "{}", shown.name);
            assert!(
                !shown.why.contains("{}") && shown.why.contains(", "),
                "{}",
                shown.why
            );
            assert!(
                shown.since.contains("2024") && shown.since.contains("2025"),
                "{}",
                shown.since
            );
            let none = TiedDevice {
                reasons: Vec::new(),
                ..device.clone()
            };
            let none = show_device(&none, String::new(), language);
            assert!(
                none.why.contains(language.text().tie_indirect),
                "{}",
                none.why
            );
            // Each kind and each reason that Postgres names has words.
            let t = language.text();
            for kind in ["visitor", "maid", "device_id", "partner_uid"] {
                assert!(t.tied_kinds.iter().any(|(name, _)| *name == kind));
                assert!(t.tie_reasons.iter().any(|(name, _)| *name == kind));
            }
        }
    }
}
