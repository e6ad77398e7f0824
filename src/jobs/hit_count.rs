//! Takes details away from old counts, so that what a stranger's hits leave behind for good does
//! not grow with what they name.
//!
//! | age | what goes |
//! | --- | --- |
//! | two days | the minute: what is left is the hour (UTC) |
//! | `privacy.retention` | ad and category, whose rows are deleted later: what is left is hour, site and kind |
//!
//! Sums stay equal: what a statement takes away it adds elsewhere, in one step. Hits that are
//! loaded late lose their details in a later run.

use tokio_postgres::Client;

use super::{JobLimits, day, retained};
use crate::clock::UnixMicros;
use crate::postgres::batch::dimension;

/// The days whose counts have minutes.
const MINUTE_DAYS: i32 = 2;

/// The days that one statement goes through: short transactions.
const DAYS_AT_ONCE: i32 = 1;

/// The statements of one run.
const STATEMENTS_MAX: usize = 1_000;

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
    has: "minute <> date_trunc('hour', minute, 'UTC')",
    without: "date_trunc('hour', minute, 'UTC'), site_key, ad_key, kind",
    // What is rolled up as a whole day has no minutes.
    is_reported: "not exists ( \
                      select from avtryck.report_clean \
                      where begins = date_trunc('day', minute, 'UTC') and ends = begins + interval '1 day')",
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

/// Returns how many counts lost a detail.
pub(super) async fn run(
    client: &mut Client,
    limits: JobLimits,
    as_of: UnixMicros,
) -> anyhow::Result<u64> {
    dimension::add_bare_sites(client).await?;
    let minutes = reduce(client, &MINUTE, day(as_of) - MINUTE_DAYS).await?;
    let names = reduce(client, &NAMES, retained(&limits, as_of)).await?;
    Ok(minutes + names)
}

/// Takes a detail away from the counts before a day.
async fn reduce(client: &Client, detail: &Detail, first_kept: i32) -> anyhow::Result<u64> {
    let Detail {
        has,
        without,
        is_reported,
    } = detail;
    let start = "(date '1970-01-01' + $1::int)::timestamp at time zone 'UTC'";
    let oldest = format!(
        "select (min(minute) at time zone 'UTC')::date - date '1970-01-01' \
         from avtryck.hit_count where minute < {start} and {has}"
    );
    let end = start.replace("$1", "$2");
    let reduce = format!(
        "with old as ( \
             delete from avtryck.hit_count \
             where minute >= {start} and minute < {end} and {has} returning *), \
         reduced as ( \
             insert into avtryck.hit_count (minute, site_key, ad_key, kind, hits) \
             select minute, site_key, ad_key, kind, sum(hits)::bigint \
             from (select {without}, hits from old) as bare (minute, site_key, ad_key, kind, hits) \
             group by 1, 2, 3, 4 order by 1, 2, 3, 4 \
             on conflict (minute, site_key, ad_key, kind) \
             do update set hits = hit_count.hits + excluded.hits), \
         marked as ( \
             insert into avtryck.report_mark (at, moves_conversions) \
             select distinct avtryck.report_slot(at), false \
             from old cross join lateral unnest(array[minute, date_trunc('hour', minute, 'UTC')]) as at \
             where {is_reported}) \
         select count(*) from old"
    );
    let mut reduced = 0;
    for _ in 0..STATEMENTS_MAX {
        let row = client.query_one(&oldest, &[&first_kept]).await?;
        let Some(day) = row.try_get::<_, Option<i32>>(0)? else {
            break;
        };
        let end = (day + DAYS_AT_ONCE).min(first_kept);
        let row = client.query_one(&reduce, &[&day, &end]).await?;
        reduced += row.try_get::<_, i64>(0)?.cast_unsigned();
    }
    Ok(reduced)
}
