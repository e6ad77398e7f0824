//! Compares who is in segments with what a partner was told.

use tokio_postgres::{Client, Error, GenericClient, Transaction};
use uuid::Uuid;

use crate::export::{ExportId, partner_user};
use crate::identity::NodeKind;
use crate::postgres::identity;

/// Members that are compared in one transaction.
const SUBJECTS_MAX: i64 = 5_000;

/// A partner that is told of segments.
#[derive(Clone, Debug)]
pub(crate) struct ToldPartner {
    /// Its key.
    pub key: String,
    /// What it knows subjects by.
    pub id: ExportId,
    /// The key of its IDs of users.
    pub export_key: String,
    /// The segments that it may be told of.
    pub segments: Vec<String>,
}

/// A member with the ID by which the partner knows it.
struct Wanted {
    subject: Uuid,
    subject_key: Uuid,
    id: String,
    id_key: Uuid,
    permit: i16,
}

/// A page of members of a segment.
struct MemberPage {
    segment: i16,
    /// The member after which it begins; none at the start.
    after: Option<Uuid>,
    subjects: Vec<Uuid>,
}

impl MemberPage {
    async fn read(
        client: &impl GenericClient,
        segment: i16,
        after: Option<Uuid>,
    ) -> Result<MemberPage, Error> {
        let sql = "select subject from avtryck.segment_member \
                   where segment = $1 and ($2::uuid is null or subject > $2) order by subject limit $3";
        let rows = client
            .query(sql, &[&segment, &after, &SUBJECTS_MAX])
            .await?;
        let subjects = rows.iter().map(|row| row.try_get(0));
        Ok(MemberPage {
            segment,
            after,
            subjects: subjects.collect::<Result<_, _>>()?,
        })
    }

    /// Returns the member with which it ends; none if it is the last page.
    fn until(&self) -> Option<Uuid> {
        let is_full = i64::try_from(self.subjects.len()) == Ok(SUBJECTS_MAX);
        self.subjects.last().filter(|_| is_full).copied()
    }
}

/// A comparison that is under way: it notes whom the partner is to be told of, and whom no more.
/// Each step takes a page of members, so that removals need not wait for the end of it.
#[derive(Debug, Default)]
pub(crate) struct MemberComparison(Step);

/// What the next step does. A comparison that is begun anew does the rest.
#[derive(Debug, Default)]
enum Step {
    /// Finds the segments.
    #[default]
    Find,
    /// Counts how many can be told of, in the last of the segments that wait.
    Count {
        /// Segments with the least number that is told.
        waiting: Vec<(i16, i64)>,
        /// Segments that are large enough.
        told: Vec<i16>,
        matched: usize,
        after: Option<Uuid>,
    },
    /// Takes back what the partner was told of other segments.
    TakeBack(Vec<i16>),
    /// Compares members, in the last of the segments.
    Members(Vec<i16>, Option<Uuid>),
    Done,
}

impl MemberComparison {
    /// Takes a step. Returns whether it was the last one.
    ///
    /// # Errors
    /// Where Postgres fails.
    pub(crate) async fn step(
        &mut self,
        client: &mut Client,
        partner: &ToldPartner,
    ) -> Result<bool, Error> {
        self.0 = match std::mem::take(&mut self.0) {
            Step::Find => Step::Count {
                waiting: find_segments(client, partner).await?,
                told: Vec::new(),
                matched: 0,
                after: None,
            },
            Step::Count {
                mut waiting,
                mut told,
                matched,
                after,
            } => match waiting.last() {
                None => Step::TakeBack(told),
                Some((segment, min_size)) => {
                    let so_far = (matched, after);
                    let counted =
                        count_page(client, partner, (*segment, *min_size), so_far).await?;
                    let (matched, after) = match counted {
                        Counted::SoFar(matched, after) => (matched, after),
                        Counted::All(is_told) => {
                            told.extend(is_told.then_some(*segment));
                            waiting.pop();
                            (0, None)
                        }
                    };
                    Step::Count {
                        waiting,
                        told,
                        matched,
                        after,
                    }
                }
            },
            Step::TakeBack(told) => match take_back(client, partner, &told).await? {
                0 => Step::Members(told, None),
                _ => Step::TakeBack(told),
            },
            Step::Members(mut told, after) => match told.last() {
                None => Step::Done,
                Some(segment) => {
                    let page = compare_page(client, partner, *segment, after).await?;
                    if page.until().is_none() {
                        told.pop();
                    }
                    Step::Members(told, page.until())
                }
            },
            Step::Done => Step::Done,
        };
        Ok(matches!(self.0, Step::Done))
    }
}

/// Returns the segments that the partner may be told of, with the least number of members.
async fn find_segments(client: &Client, partner: &ToldPartner) -> Result<Vec<(i16, i64)>, Error> {
    if partner.id == ExportId::None {
        return Ok(Vec::new());
    }
    let sql = "select segment, min_size from avtryck.segment \
               where key = any($1) and is_exposed and ended_at is null order by segment desc";
    let rows = client.query(sql, &[&partner.segments]).await?;
    let read = |row: &tokio_postgres::Row| Ok((row.try_get(0)?, row.try_get(1)?));
    rows.iter().map(read).collect()
}

/// What is known of how many members can be told of.
enum Counted {
    /// How many up to a member.
    SoFar(usize, Option<Uuid>),
    /// Whether there are enough.
    All(bool),
}

/// Counts a page of those who can be told of, unless that was done within the last day.
async fn count_page(
    client: &Client,
    partner: &ToldPartner,
    (segment, min_size): (i16, i64),
    (matched, after): (usize, Option<Uuid>),
) -> Result<Counted, Error> {
    let sql = "select is_told from avtryck.export_segment \
               where partner = $1 and segment = $2 and counted_at > now() - interval '1 day'";
    if after.is_none()
        && let Some(row) = client.query_opt(sql, &[&partner.key, &segment]).await?
    {
        return Ok(Counted::All(row.try_get(0)?));
    }
    let page = MemberPage::read(client, segment, after).await?;
    let matched = matched + read_wanted(client, partner, &page.subjects).await?.len();
    if let Some(until) = page.until() {
        return Ok(Counted::SoFar(matched, Some(until)));
    }
    let matched = i64::try_from(matched).unwrap_or(i64::MAX);
    let is_told = matched >= min_size;
    let sql = "insert into avtryck.export_segment (partner, segment, matched, counted_at, is_told) \
               values ($1, $2, $3, now(), $4) on conflict (partner, segment) do update \
               set matched = excluded.matched, counted_at = excluded.counted_at, is_told = excluded.is_told";
    client
        .execute(sql, &[&partner.key, &segment, &matched, &is_told])
        .await?;
    Ok(Counted::All(is_told))
}

/// Takes back some of what the partner was told of segments other than these. Returns how many.
async fn take_back(client: &Client, partner: &ToldPartner, told: &[i16]) -> Result<i32, Error> {
    let sql = "with gone as (select array(select told from avtryck.export_told \
                   where partner = $1 and segment <> all($2) limit $3) as which) \
               select avtryck.untell(which), cardinality(which) from gone";
    let row = client
        .query_one(sql, &[&partner.key, &told, &SUBJECTS_MAX])
        .await?;
    row.try_get(1)
}

/// Compares a page. No membership or permit changes meanwhile, so nobody is noted who left.
async fn compare_page(
    client: &mut Client,
    partner: &ToldPartner,
    segment: i16,
    after: Option<Uuid>,
) -> Result<MemberPage, Error> {
    let transaction = client.transaction().await?;
    identity::lock(&transaction).await?;
    let page = MemberPage::read(&transaction, segment, after).await?;
    let wanted = read_wanted(&transaction, partner, &page.subjects).await?;
    note(&transaction, partner, &page, &wanted).await?;
    transaction.commit().await?;
    Ok(page)
}

async fn note(
    transaction: &Transaction<'_>,
    partner: &ToldPartner,
    page: &MemberPage,
    wanted: &[Wanted],
) -> Result<(), Error> {
    let subjects: Vec<Uuid> = wanted.iter().map(|one| one.subject).collect();
    let subject_keys: Vec<Uuid> = wanted.iter().map(|one| one.subject_key).collect();
    let ids: Vec<&str> = wanted.iter().map(|one| &*one.id).collect();
    let id_keys: Vec<Uuid> = wanted.iter().map(|one| one.id_key).collect();
    let permits: Vec<i16> = wanted.iter().map(|one| one.permit).collect();
    let sql = "select avtryck.untell(array( \
                   select told from avtryck.export_told as held \
                   where partner = $1 and segment = $2 and ($3::uuid is null or subject > $3) \
                     and ($4::uuid is null or subject <= $4) \
                     and not exists (select from unnest($5::uuid[], $6::text[]) as wanted (subject, id) \
                                     where wanted.subject = held.subject and wanted.id = held.id)))";
    transaction
        .execute(
            sql,
            &[
                &partner.key,
                &page.segment,
                &page.after,
                &page.until(),
                &subjects,
                &ids,
            ],
        )
        .await?;
    // Whom the partner is yet to forget it is told of afterwards.
    let sql = "insert into avtryck.export_told (partner, segment, subject, subject_key, id, id_key, permit) \
               select $1, $2, wanted.* from unnest($3::uuid[], $4::uuid[], $5::text[], $6::uuid[], $7::smallint[]) \
                   as wanted (subject, subject_key, id, id_key, permit) \
               where not exists (select from avtryck.export_outbox as waiting \
                                 where waiting.partner = $1 and waiting.segment = $2 and waiting.id = wanted.id) \
               on conflict (partner, segment, id) do nothing";
    transaction
        .execute(
            sql,
            &[
                &partner.key,
                &page.segment,
                &subjects,
                &subject_keys,
                &ids,
                &id_keys,
                &permits,
            ],
        )
        .await?;
    Ok(())
}

/// Returns those of some members whom the partner may be told of and has an ID for.
async fn read_wanted(
    client: &impl GenericClient,
    partner: &ToldPartner,
    subjects: &[Uuid],
) -> Result<Vec<Wanted>, Error> {
    let kind = match partner.id {
        ExportId::None => return Ok(Vec::new()),
        ExportId::Partner => NodeKind::PartnerUid,
        ExportId::Maid => NodeKind::Maid,
        ExportId::User => NodeKind::User,
    } as i16;
    let rows = client
        .query(
            include_str!("wanted.sql"),
            &[&partner.key, &kind, &subjects],
        )
        .await?;
    let mut wanted = Vec::with_capacity(rows.len());
    for row in rows {
        let raw: String = row.try_get("id")?;
        let id = match partner.id {
            ExportId::User => partner_user(&partner.export_key, &raw).unwrap_or_default(),
            _ => raw,
        };
        wanted.push(Wanted {
            subject: row.try_get("subject")?,
            subject_key: row.try_get("subject_key")?,
            id,
            id_key: row.try_get("id_key")?,
            permit: row.try_get("permit")?,
        });
    }
    Ok(wanted)
}
