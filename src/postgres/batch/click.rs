//! Conversions that name another visitor's click: they are flagged before they are stored.

use std::collections::HashSet;

use tokio_postgres::{Error, Row, Transaction};
use uuid::Uuid;

use super::load::{self, Load, Mark};
use crate::hit::{Flags, VisitorId};
use crate::row::click::{ClickMention, KnownClick, KnownClicks};

/// The most clicks that are looked up for one batch. A conversion that names a further one is
/// flagged: honest batches name far fewer.
const LOOKED_UP_MAX: usize = 4_096;

/// Flags the rows that name another visitor's click.
pub(crate) async fn flag_foreign(
    transaction: &Transaction<'_>,
    load: &mut Load,
) -> Result<(), Error> {
    // Marks stay in the order of their rows: some are removed, none is moved.
    let find = |marks: &[Mark], start: usize| {
        marks
            .binary_search_by_key(&start, |mark| mark.row.start)
            .ok()
    };
    let marks = &load.rows.marks;
    let mentions: Vec<(usize, &ClickMention)> = load
        .mentions
        .iter()
        .filter_map(|(start, mention)| Some((find(marks, *start)?, mention)))
        .collect();
    let mut asked = HashSet::new();
    for (_, mention) in mentions.iter().filter(|(_, mention)| !mention.is_click) {
        if asked.len() < LOOKED_UP_MAX {
            asked.insert(&*mention.click_id);
        }
    }
    if asked.is_empty() {
        return Ok(());
    }
    let mut known = look_up(transaction, &asked).await?;
    for (at, mention) in mentions {
        let is_beyond = !mention.is_click && !asked.contains(&*mention.click_id);
        if (known.is_foreign(mention) || is_beyond)
            && let Some(mark) = load.rows.marks.get(at)
        {
            load::set_flags(&mut load.rows.bytes, mark, Flags::FOREIGN_CLICK);
        }
    }
    Ok(())
}

async fn look_up(
    transaction: &Transaction<'_>,
    asked: &HashSet<&str>,
) -> Result<KnownClicks, Error> {
    let ids: Vec<&str> = asked.iter().copied().collect();
    let rows = transaction
        .query("select * from avtryck.known_clicks($1)", &[&ids])
        .await?;
    let visitor = |row: &Row, column| {
        let id: Option<Uuid> = row.try_get(column)?;
        Ok::<_, Error>(id.map(|id| VisitorId(id.into_bytes())))
    };
    let mut known = KnownClicks::default();
    for row in &rows {
        let click = KnownClick {
            visitor: visitor(row, "visitor_id")?,
            is_third_party: row.try_get("is_third_party")?,
            follower: visitor(row, "follower")?,
        };
        known.add(row.try_get("click_id")?, click);
    }
    Ok(known)
}
