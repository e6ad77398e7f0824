//! The IDs whose hits become counts, as far as this process knows them.
//!
//! They come from three places, and none is enough alone: the spool of instructions has what
//! visitors ask of this collector, Postgres has what was asked of others and on the command line,
//! and the topic of instructions has what either said when Postgres is away. What is new goes to
//! the topic, for those who read hits elsewhere.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::hit::subject::Subject;
use crate::hit::{Kind, VisitorId};
use crate::postgres::server::silence::SILENCE_MAX;
use crate::postgres::subject::suppression::{self, Listed, Reason};
use crate::postgres::{Database, SilenceWatch};

/// How often Postgres is asked for what is new on its list.
const FOLLOW_PERIOD: Duration = Duration::from_secs(2);
/// How long a session waits for the list at the start.
const LIST_TIME_MAX: Duration = Duration::from_secs(10);
/// Instructions that go into one transaction.
const NEWS_MAX: usize = 10_000;

/// The list, shared by the sinks of a process.
pub struct Suppressed {
    list: Mutex<List>,
    /// Whether Postgres's list was read.
    is_read: watch::Sender<bool>,
}

#[derive(Default)]
struct List {
    entries: HashMap<[u8; 16], Reason>,
    /// What the topic does not have.
    news: Vec<Listed>,
}

impl Default for Suppressed {
    fn default() -> Suppressed {
        Suppressed {
            list: Mutex::default(),
            is_read: watch::Sender::new(false),
        }
    }
}

impl Suppressed {
    fn list(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether nobody is on it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list().entries.is_empty()
    }

    /// Returns whether a subject is on it.
    #[must_use]
    pub fn has(&self, key: &[u8; 16]) -> bool {
        self.list().entries.contains_key(key)
    }

    /// Adds what the topic has already.
    pub(in crate::loader) fn add_known(&self, key: [u8; 16], reason: Reason) {
        let mut list = self.list();
        list.entries.insert(key, reason);
        list.news
            .retain(|news| (news.key, news.reason) != (key, reason));
    }

    /// Adds what the topic may not have. An erasure stays one where a withdrawal follows it.
    pub(super) fn add(&self, entries: impl IntoIterator<Item = Listed>) {
        let mut list = self.list();
        for entry in entries {
            let known = list.entries.get(&entry.key).copied();
            if known != Some(entry.reason) && known != Some(Reason::Erasure) {
                list.entries.insert(entry.key, entry.reason);
                list.news.push(entry);
            }
        }
    }

    /// Adds what visitors ask of this collector. `is_alone` says that it is carried out by
    /// `avtryck load` alone, which has to know whom it is about: then it is passed on even if it
    /// was asked for before.
    pub(super) fn add_instructions(&self, instructions: &[(VisitorId, Kind)], is_alone: bool) {
        let entries = instructions.iter().map(|(visitor, kind)| {
            let reason = match kind {
                Kind::Erasure => Reason::Erasure,
                _ => Reason::Withdrawal,
            };
            let subject = Subject::Visitor(*visitor);
            Listed {
                key: subject.key(),
                id_kind: subject.id_kind(),
                reason,
                visitor: is_alone.then_some(*visitor),
            }
        });
        if !is_alone {
            return self.add(entries);
        }
        let mut list = self.list();
        for mut entry in entries {
            // What is erased stays so, as in Postgres's list.
            if list.entries.get(&entry.key) == Some(&Reason::Erasure) {
                entry.reason = Reason::Erasure;
            }
            list.entries.insert(entry.key, entry.reason);
            list.news.push(entry);
        }
    }

    /// Takes what is to be produced next.
    pub(in crate::loader) fn take_news(&self) -> Vec<Listed> {
        let mut list = self.list();
        let rest = list.news.len().saturating_sub(NEWS_MAX);
        list.news.split_off(rest)
    }

    /// Gives back what was not produced.
    pub(in crate::loader) fn put_back(&self, news: Vec<Listed>) {
        self.list().news.extend(news);
    }

    /// Waits until Postgres's list was read, for a while.
    pub(super) async fn wait_for_list(&self) {
        let mut is_read = self.is_read.subscribe();
        let read = is_read.wait_for(|is_read| *is_read);
        // Without Postgres the topic is what there is.
        drop(tokio::time::timeout(LIST_TIME_MAX, read).await);
    }
}

/// Adds what is on Postgres's list, and then what comes onto it. Never returns.
pub async fn follow(suppressed: Arc<Suppressed>, database: Arc<Database>) {
    loop {
        if let Err(error) = follow_once(&suppressed, &database).await {
            tracing::debug!("the list of suppression cannot be read: {error:#}");
        }
        tokio::time::sleep(FOLLOW_PERIOD).await;
    }
}

async fn follow_once(suppressed: &Suppressed, database: &Arc<Database>) -> anyhow::Result<()> {
    let (client, watch) = SilenceWatch::connect(database, SILENCE_MAX).await?;
    let mut from = None;
    loop {
        let read = async { Ok(suppression::read_since(&client, from).await?) };
        let (entries, read_up_to) = watch.watch(read).await?;
        suppressed.add(entries);
        from = Some(read_up_to);
        suppressed.is_read.send_replace(true);
        tokio::time::sleep(FOLLOW_PERIOD).await;
    }
}
