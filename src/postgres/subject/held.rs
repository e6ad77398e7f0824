//! What a visitor's own page shows of what is held.
//!
//! However many rows a visitor has, a question reads [`HELD_COUNTED_MAX`] of them and one more:
//! those of the last days, a partition at a time. Of a visitor with fewer, which is nearly
//! everybody, these are all.

use tokio_postgres::{Client, Error, Row, Statement};
use uuid::Uuid;

use super::PLAIN_PLANS;
use crate::clock::UnixMicros;
use crate::hit::belief::{Beliefs, DEVICES_SHOWN_MAX, GROUPS_NEEDED, PageScope};
use crate::hit::subject::{HELD_COUNTED_MAX, Held, HeldAd, HeldHit};
use crate::hit::{Permit, VisitorId};
use crate::identity::LinkPermit;
use crate::postgres::household::own::{HOME, read_home};
use crate::postgres::identity::own::{DEVICES, LATELY, read_device};
use crate::postgres::segment::own;

/// The queries that read from the last rows of a visitor, `recent`.
const SUM: &str = include_str!("sum.sql");
const LAST: &str = include_str!("last.sql");
pub(super) const ADS: &str = include_str!("ads.sql");

/// Returns a query that reads from the last rows of a visitor, `$1`. The limit of a day keeps each
/// partition a scan of its own, which ends there.
pub(super) fn of_recent(query: &str) -> String {
    let limit = HELD_COUNTED_MAX + 1;
    format!(
        "with recent as materialized ( \
             select hit.* from (select day from avtryck.hit_day order by day desc) as days \
             cross join lateral ( \
                 select received_at, kind, page_url, event_name, client_ip, \
                        place_key, network_key, device_key, ad_key \
                 from avtryck.hit \
                 where visitor_id = $1 \
                   and received_at >= days.day::timestamp at time zone 'UTC' \
                   and received_at < (days.day + 1)::timestamp at time zone 'UTC' \
                 limit {limit}) as hit \
             limit {limit}) {query}"
    )
}

/// The plan is made once for a connection, not for each visitor: with a partition a day, planning
/// takes ten times as long as the rest. A plan that reads an index row by row can stop anywhere,
/// where a bitmap would be made of all rows of the visitor first.
pub(super) const SESSION: &str = "set plan_cache_mode = force_generic_plan; \
     set enable_bitmapscan = off; set enable_seqscan = off";

/// A connection that reads what visitors' pages show.
pub(crate) struct HeldReader {
    client: Client,
    sum: Statement,
    last: Statement,
    ads: Statement,
    devices: Statement,
    lately: Statement,
    home: Statement,
}

impl HeldReader {
    /// Prepares a connection.
    ///
    /// # Errors
    /// Where Postgres fails.
    pub(crate) async fn new(client: Client) -> Result<HeldReader, Error> {
        let session = format!("{SESSION}; {PLAIN_PLANS}");
        client.batch_execute(&session).await?;
        Ok(HeldReader {
            sum: client.prepare(&of_recent(SUM)).await?,
            last: client.prepare(&of_recent(LAST)).await?,
            ads: client.prepare(&of_recent(ADS)).await?,
            devices: client.prepare(DEVICES).await?,
            lately: client.prepare(LATELY).await?,
            home: client.prepare(HOME).await?,
            client,
        })
    }

    /// Checks whether the connection is lost.
    #[must_use]
    pub(crate) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Reads what a visitor's page shows: how much is held, at most `last_max` hits and ads, and
    /// what is believed of the visitor as far as the request permits.
    ///
    /// # Errors
    /// Where Postgres fails.
    pub(crate) async fn read(
        &self,
        visitor: VisitorId,
        scope: &PageScope,
        last_max: usize,
    ) -> Result<Held, Error> {
        let held = self.read_rows(visitor, last_max).await?;
        let beliefs = self.read_beliefs(visitor, scope).await?;
        Ok(Held { beliefs, ..held })
    }

    async fn read_beliefs(&self, visitor: VisitorId, scope: &PageScope) -> Result<Beliefs, Error> {
        let mut beliefs = Beliefs::default();
        if scope.permit.allows(GROUPS_NEEDED) {
            beliefs.groups = own::read(&self.client, visitor, scope).await?;
        }
        if LinkPermit::new(scope.permit).is_none() {
            return Ok(beliefs);
        }
        let (client, visitor) = (&self.client, Uuid::from_bytes(visitor.0));
        let devices = client
            .query(&self.devices, &[&visitor, &scope.site, &DEVICES_SHOWN_MAX])
            .await?;
        beliefs.devices = devices
            .iter()
            .map(read_device)
            .collect::<Result<_, Error>>()?;
        let lately = client.query_one(&self.lately, &[&visitor]).await?;
        beliefs.has_parted = lately.try_get("has_parted")?;
        beliefs.has_forgotten = lately.try_get("has_forgotten")?;
        if scope.permit.allows(Permit::LOCATE) {
            let row = client
                .query_one(&self.home, &[&visitor, &scope.site])
                .await?;
            beliefs.home = read_home(&row)?;
        }
        Ok(beliefs)
    }

    async fn read_rows(&self, visitor: VisitorId, last_max: usize) -> Result<Held, Error> {
        let client = &self.client;
        let visitor = Uuid::from_bytes(visitor.0);
        let sum = client.query_one(&self.sum, &[&visitor]).await?;
        let hits = sum.try_get("hits").map(i64::cast_unsigned)?;
        if hits == 0 {
            return Ok(Held::default());
        }
        let limit = i64::try_from(last_max).unwrap_or(i64::MAX);
        let last = client.query(&self.last, &[&visitor, &limit]).await?;
        let ads = client.query(&self.ads, &[&visitor, &limit]).await?;
        Ok(Held {
            hits,
            last: last
                .iter()
                .map(read_held_hit)
                .collect::<Result<_, Error>>()?,
            ads: ads.iter().map(read_held_ad).collect::<Result<_, Error>>()?,
            ..Held::default()
        })
    }
}

/// Returns a text of a row, empty where it is null.
fn text(row: &Row, column: &str) -> Result<String, Error> {
    let text: Option<String> = row.try_get(column)?;
    Ok(text.unwrap_or_default())
}

fn read_held_ad(row: &Row) -> Result<HeldAd, Error> {
    let number = |column: &str| row.try_get(column).map(i64::cast_unsigned);
    Ok(HeldAd {
        partner: text(row, "partner")?,
        campaign: text(row, "campaign")?,
        creative: text(row, "creative")?,
        seen: number("seen")?,
        clicked: number("clicked")?,
        last_at: UnixMicros(row.try_get("last_at")?),
    })
}

fn read_held_hit(row: &Row) -> Result<HeldHit, Error> {
    let received_at = UnixMicros(row.try_get("received_at")?);
    HeldHit::read(received_at, |column| text(row, column))
}
