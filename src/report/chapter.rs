//! What a report of a campaign holds: one table of chapters, each with its query, the meaning of
//! its columns and its chart.

use anyhow::Context as _;
use jiff::civil::Date;
use serde_json::Value;
use tokio_postgres::Client;

/// A chapter of the report.
pub(super) struct Chapter {
    /// Its name in JSON.
    pub(super) key: &'static str,
    pub(super) title: &'static str,
    /// What it shows, in a sentence.
    pub(super) about: &'static str,
    /// Its columns: their name, and what they count.
    pub(super) columns: &'static [(&'static str, &'static str)],
    /// Selects a JSON array of each row's columns. `$1` is the campaign, `$2` is the first day and
    /// `$3` the last.
    sql: &'static str,
    pub(super) chart: Chart,
}

/// How a chapter is drawn.
#[derive(Clone, Copy)]
pub(super) enum Chart {
    None,
    /// Columns as lines over the rows, which the first column names.
    Lines(&'static [usize]),
    /// A column as bars of the rows, which the other column names.
    Bars {
        label: usize,
        value: usize,
    },
}

const IMPRESSIONS: (&str, &str) = ("net impressions", "impressions without invalid traffic");
const CLICKS: (&str, &str) = ("net clicks", "clicks without invalid traffic");
const CONVERSIONS: (&str, &str) = (
    "net conversions",
    "conversions that something shows the ad led to, by the day of the conversion",
);
const UNMEASURED: (&str, &str) = (
    "unmeasured impressions",
    "impressions of people who do not allow to be measured: only their number is known",
);
const REACH: (&str, &str) = (
    "reach",
    "people with a net impression, as browsers or as IDs that a partner vouches for",
);

/// Every chapter, in order.
pub(super) const CHAPTERS: [Chapter; 9] = [
    Chapter {
        key: "totals",
        title: "All in all",
        about: "The whole campaign on these days. A network bills for gross and unmeasured impressions together.",
        columns: &[
            ("gross impressions", "impressions, invalid ones included"),
            IMPRESSIONS,
            UNMEASURED,
            REACH,
            ("frequency", "net impressions of each of them"),
            ("gross clicks", "clicks, invalid ones included"),
            CLICKS,
            ("ctr %", "net clicks for each hundred net impressions"),
            CONVERSIONS,
        ],
        sql: "select json_build_array(gross_impressions, net_impressions, unmeasured, reach.reach, reach.frequency, \
                     gross_clicks, net_clicks, round(100 * net_clicks / nullif(net_impressions, 0), 2), net_conversions)::text \
              from (select coalesce(sum(gross_impressions), 0) as gross_impressions, coalesce(sum(net_impressions), 0) as net_impressions, \
                           coalesce(sum(unmeasured_impressions), 0) as unmeasured, coalesce(sum(gross_clicks), 0) as gross_clicks, \
                           coalesce(sum(net_clicks), 0) as net_clicks, coalesce(sum(net_conversions), 0) as net_conversions \
                    from avtryck.campaign_daily where campaign = $1 and day between $2 and $3) as sums \
              left join avtryck.reach($2, $3, array[$1], 'all') as reach on true",
        chart: Chart::None,
    },
    Chapter {
        key: "days",
        title: "Day by day",
        about: "A day is that of the site: of its time zone, or of UTC where it names none.",
        columns: &[
            ("day", "the day of the site"),
            IMPRESSIONS,
            CLICKS,
            CONVERSIONS,
            UNMEASURED,
        ],
        sql: "select json_build_array(days.day, coalesce(sum(net_impressions), 0), coalesce(sum(net_clicks), 0), \
                     coalesce(sum(net_conversions), 0), coalesce(sum(unmeasured_impressions), 0))::text \
              from (select $2::date + n as day from generate_series(0, $3::date - $2::date) as n) as days \
              left join (select * from avtryck.campaign_daily where campaign = $1 and day between $2 and $3) as daily \
                   on daily.day = days.day \
              group by days.day order by days.day",
        chart: Chart::Lines(&[1, 2]),
    },
    Chapter {
        key: "frequency",
        title: "Reach and frequency",
        about: "How many people saw the campaign once, twice, and so on. The last row is for ten times and more.",
        columns: &[
            ("times", "net impressions of one person"),
            ("people", "people who had that many"),
        ],
        sql: "select json_build_array(case when times < 10 then times::text else '10 +' end, sum(subjects))::text \
              from avtryck.frequency($2, $3, array[$1]) group by least(times, 10), case when times < 10 then times::text else '10 +' end \
              order by least(times, 10)",
        chart: Chart::Bars { label: 0, value: 1 },
    },
    Chapter {
        key: "funnel",
        title: "From impression to conversion",
        about: "Hits, not people, without invalid traffic.",
        columns: &[
            ("step", "what happened"),
            ("hits", "how often"),
            ("% of impressions", "for each hundred net impressions"),
        ],
        sql: "select json_build_array(step, hits, round(100.0 * hits / nullif(max(hits) filter (where number = 1) over (), 0), 2))::text \
              from (select number, step, sum(hits) as hits from ( \
                  select 1 as number, 'impression' as step, net_impressions as hits from avtryck.campaign_daily where campaign = $1 and day between $2 and $3 \
                  union all select 2, 'viewable', viewable from avtryck.campaign_view where campaign = $1 and day between $2 and $3 \
                  union all select 3, 'click', net_clicks from avtryck.campaign_daily where campaign = $1 and day between $2 and $3 \
                  union all select 4, 'conversion', net_conversions from avtryck.campaign_daily where campaign = $1 and day between $2 and $3) as each \
              group by 1, 2) as steps order by number",
        chart: Chart::Bars { label: 0, value: 1 },
    },
    Chapter {
        key: "devices",
        title: "Devices",
        about: "A person who saw the campaign on a phone and on a desktop is in both rows.",
        columns: &[
            (
                "device",
                "the class of the device, by what its browser says",
            ),
            REACH,
            IMPRESSIONS,
            ("frequency", "net impressions of each of them"),
        ],
        sql: "select json_build_array(coalesce(value, 'unknown'), reach, impressions, frequency)::text \
              from avtryck.reach($2, $3, array[$1], 'device_class') order by reach desc, value",
        chart: Chart::Bars { label: 0, value: 1 },
    },
    Chapter {
        key: "regions",
        title: "Regions",
        about: "By the address of the visitor. The thirty regions with the most impressions.",
        columns: &[
            ("country", "ISO 3166-1"),
            ("region", "ISO 3166-2, or its name"),
            IMPRESSIONS,
            CLICKS,
            CONVERSIONS,
        ],
        sql: "select json_build_array(coalesce(country, 'unknown'), coalesce(region, 'unknown'), sum(net_impressions), sum(net_clicks), sum(net_conversions))::text \
              from avtryck.campaign_daily where campaign = $1 and day between $2 and $3 \
              group by country, region having sum(gross_impressions + gross_clicks + gross_conversions) > 0 \
              order by sum(net_impressions) desc, 1 limit 30",
        chart: Chart::Bars { label: 1, value: 2 },
    },
    Chapter {
        key: "placements",
        title: "Placements",
        about: "The fifty with the most impressions. Viewability is that of impressions whose place could be measured.",
        columns: &[
            ("publisher", "as the tag names it"),
            ("placement", "as the tag names it"),
            ("creative", "as the tag names it"),
            IMPRESSIONS,
            CLICKS,
            ("ctr %", "net clicks for each hundred net impressions"),
            CONVERSIONS,
            (
                "viewable %",
                "events viewable for each hundred events measurable",
            ),
        ],
        sql: "with placed as ( \
                  select publisher, placement, creative, sum(net_impressions) as impressions, sum(net_clicks) as clicks, \
                         sum(net_conversions) as conversions \
                  from avtryck.placement_daily where campaign = $1 and day between $2 and $3 group by 1, 2, 3), \
              viewed as ( \
                  select publisher, placement, creative, sum(measurable) as measurable, sum(viewable) as viewable \
                  from avtryck.campaign_view where campaign = $1 and day between $2 and $3 group by 1, 2, 3) \
              select json_build_array(coalesce(placed.publisher, ''), coalesce(placed.placement, ''), coalesce(placed.creative, ''), \
                     impressions, clicks, round(100 * clicks / nullif(impressions, 0), 2), conversions, round(100 * viewable / nullif(measurable, 0), 1))::text \
              from placed left join viewed on (viewed.publisher, viewed.placement, viewed.creative) is not distinct from (placed.publisher, placed.placement, placed.creative) \
              order by impressions desc, 1 limit 50",
        chart: Chart::Bars { label: 1, value: 3 },
    },
    Chapter {
        key: "invalid",
        title: "Invalid traffic",
        about: "What is in gross figures and not in net ones, by reason. A hit with two reasons is in two rows.",
        columns: &[
            (
                "reason",
                "the flag of the hits: docs/reports.md says what each means",
            ),
            ("impressions", "invalid impressions"),
            ("clicks", "invalid clicks"),
        ],
        sql: "select json_build_array(reason, coalesce(sum(hits) filter (where act = 'impression'), 0), \
                     coalesce(sum(hits) filter (where act = 'click'), 0))::text \
              from avtryck.campaign_invalid where campaign = $1 and day between $2 and $3 \
              group by reason order by sum(hits) desc, reason",
        chart: Chart::Bars { label: 0, value: 1 },
    },
    Chapter {
        key: "value",
        title: "Value",
        about: "Conversions after a click within 30 days, or after an impression within a day. What the campaign cost is what campaign_cost has.",
        columns: &[
            ("currency", "as the conversions give it"),
            ("after a click", "net conversions after a click"),
            (
                "after a view",
                "valid conversions after an impression, without a click",
            ),
            ("revenue", "the value of those after a click"),
            ("cost", "as it was entered"),
            ("roas", "revenue for each unit of cost"),
        ],
        sql: "select json_build_array(coalesce(currency, ''), sum(click_conversions), sum(view_conversions), sum(revenue), sum(cost), \
                     round(sum(revenue) / nullif(sum(cost), 0), 2))::text \
              from avtryck.campaign_value where campaign = $1 and day between $2 and $3 group by currency order by currency nulls last",
        chart: Chart::None,
    },
];

/// The rows of a chapter, each with a value for each column.
pub(super) type ChapterRows = Vec<Vec<Value>>;

/// Reads the rows of a chapter.
///
/// # Errors
/// Where Postgres fails.
pub(super) async fn read(
    client: &Client,
    chapter: &Chapter,
    campaign: &str,
    (first, last): (Date, Date),
) -> anyhow::Result<ChapterRows> {
    // Dates are parsed, so nothing in them needs quoting, and the planner sees them.
    let sql = chapter
        .sql
        .replace("$2", &format!("date '{first}'"))
        .replace("$3", &format!("date '{last}'"))
        .replace("$1", "$1::text");
    let rows = client.query(&sql, &[&campaign]).await;
    let rows = rows.with_context(|| format!("reading the chapter {}", chapter.key))?;
    let row = |row: &tokio_postgres::Row| -> anyhow::Result<Vec<Value>> {
        Ok(serde_json::from_str(row.try_get(0)?)?)
    };
    rows.iter().map(row).collect()
}
