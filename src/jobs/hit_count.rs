//! Takes details away from old counts, so that what a stranger's hits leave behind for good does
//! not grow with what they name.
//!
//! | age | what goes |
//! | --- | --- |
//! | two days | the minute: what is left is the hour (UTC), or when a day of a site begins within it |
//! | `privacy.retention` | ad and category, whose rows are deleted later: what is left is hour, site and kind |
//!
//! A run takes a day's worth of each, as of everything that is deleted by age. Sums stay equal:
//! what a statement takes away it adds elsewhere, in one step. Hits that are loaded late lose their
//! details in a later run.

use tokio_postgres::Client;

use super::{Done, JobLimits, day, expiry, first_retained_day};
use crate::clock::UnixMicros;
use crate::postgres::batch::dimension;
use crate::postgres::clock::read_protected_days;

/// The job's name.
pub(super) const NAME: &str = "hit_count";

/// The days whose counts have minutes.
const MINUTE_DAYS: i32 = 2;

/// A kind of detail.
struct Detail {
    /// Whether a count has it.
    has: &'static str,
    /// The columns of a count without it.
    without: &'static str,
    /// Whether the roll-ups of reports have the detail, so that they must be marked.
    is_reported: &'static str,
}

const MINUTE: Detail = Detail {
    has: "minute <> date_trunc('hour', minute, 'UTC') and minute <> avtryck.count_hour(minute)",
    without: "avtryck.count_hour(minute), site_key, ad_key, kind",
    // A span that has both times has no minutes.
    is_reported: "not exists ( \
                      select from avtryck.report_clean \
                      where begins <= avtryck.count_hour(minute) and ends > minute)",
};

/// A site that has no row without category keeps its counts as they are.
const NAMES: Detail = Detail {
    has: "(ad_key <> 0 or exists ( \
              select from avtryck.site join avtryck.site as bare using (site) \
              where site.key = site_key and site.category is not null and bare.category is null))",
    without: "minute, coalesce(( \
                  select min(bare.key) from avtryck.site join avtryck.site as bare using (site) \
                  where site.key = site_key and bare.category is null), site_key), 0, kind",
    is_reported: "true",
};

/// Takes a day's worth of each detail away. `changed` is how many counts lost one.
pub(super) async fn run(
    client: &mut Client,
    limits: JobLimits,
    as_of: UnixMicros,
) -> anyhow::Result<Done> {
    dimension::add_bare_sites(client).await?;
    let details = [
        (&MINUTE, day(as_of) - MINUTE_DAYS),
        (&NAMES, first_retained_day(&limits, as_of)),
    ];
    let mut due = Vec::new();
    for (detail, first_kept) in details {
        let age = day(as_of).saturating_sub(first_kept);
        let protected = read_protected_days(client, age).await?;
        let oldest = find_oldest(client, detail, first_kept, &protected).await?;
        due.extend(oldest.map(|oldest| (detail, first_kept, protected, oldest)));
    }
    let mut done = Done::default();
    if due.is_empty() {
        return Ok(done);
    }
    let is_too_soon = expiry::is_too_soon(client, NAME, as_of).await?;
    for (detail, first_kept, protected, oldest) in due {
        let mut left = Some(oldest);
        if !is_too_soon {
            done.changed += reduce(client, detail, oldest).await?;
            left = find_oldest(client, detail, first_kept, &protected).await?;
        }
        let days = left.map_or(0, |left| u64::from(first_kept.abs_diff(left)));
        done.held_back = done.held_back.max(days);
    }
    if !is_too_soon {
        expiry::note(client, NAME, as_of).await?;
    }
    Ok(done)
}

/// Returns the oldest day before a day whose counts have a detail, but for protected ones.
async fn find_oldest(
    client: &Client,
    detail: &Detail,
    first_kept: i32,
    protected: &[i32],
) -> anyhow::Result<Option<i32>> {
    let has = detail.has;
    let row = client
        .query_one(
            &format!(
                "select (min(minute) at time zone 'UTC')::date - date '1970-01-01' \
                 from avtryck.hit_count where minute < {} and {has} \
                   and (minute at time zone 'UTC')::date - date '1970-01-01' <> all($2)",
                start("$1")
            ),
            &[&first_kept, &protected],
        )
        .await?;
    Ok(row.try_get(0)?)
}

/// Takes a detail away from the counts of a day.
async fn reduce(client: &Client, detail: &Detail, day: i32) -> anyhow::Result<u64> {
    let Detail {
        has,
        without,
        is_reported,
    } = detail;
    let (begin, end) = (start("$1"), start("$1 + 1"));
    let reduce = format!(
        "with old as ( \
             delete from avtryck.hit_count \
             where minute >= {begin} and minute < {end} and {has} returning *), \
         reduced as ( \
             insert into avtryck.hit_count (minute, site_key, ad_key, kind, hits) \
             select minute, site_key, ad_key, kind, sum(hits)::bigint \
             from (select {without}, hits from old) as bare (minute, site_key, ad_key, kind, hits) \
             group by 1, 2, 3, 4 order by 1, 2, 3, 4 \
             on conflict (minute, site_key, ad_key, kind) \
             do update set hits = hit_count.hits + excluded.hits), \
         marked as ( \
             insert into avtryck.report_mark (at, moves_conversions, changes_web) \
             select distinct avtryck.report_slot(at), false, false \
             from old cross join lateral unnest(array[minute, avtryck.count_hour(minute)]) as at \
             where {is_reported}) \
         select count(*) from old"
    );
    let row = client.query_one(&reduce, &[&day]).await?;
    Ok(row.try_get::<_, i64>(0)?.cast_unsigned())
}

/// Returns when a day begins, in SQL.
fn start(day: &str) -> String {
    format!("(date '1970-01-01' + ({day})::int)::timestamp at time zone 'UTC'")
}
