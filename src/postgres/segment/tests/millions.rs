//! How long a preview takes with millions of subjects (`make bench-preview`).

use std::time::Instant;

use super::*;

/// Ten million subjects with four facts each: one in ten has bought data, one in four shares a
/// device with another ID, one in ten permits no profile. Nothing is to be noted of what is filled
/// in, so without triggers.
const FILL: &str = "
    set session_replication_role = replica;
    set work_mem = '512MB';
    insert into avtryck.place (key, country, region, city, postal_code)
    select n, 'SE', 'region ' || n % 23, 'city ' || n % 290, lpad(n::text, 5, '1') from generate_series(1, 3000) as n;
    insert into avtryck.device (key, class, is_bot) select n, (array['phone', 'tablet', 'desktop'])[1 + n % 3], false
    from generate_series(1, 900) as n;
    create temporary table who as select md5(n::text)::uuid as subject, n from generate_series(1, SUBJECTS) as n order by 1;
    insert into avtryck.subject_permit (subject, site, partner, permit, consent_source, at)
    select subject, 'shop', '', case when n % 10 = 0 then 3 when n % 3 = 0 then 63 else 47 end, 2, now() from who;
    insert into avtryck.subject_seen (subject, device_key, place_key, first_day, last_day, permit)
    select subject, 1 + n % 900, 1 + n % 3000, current_date - n % 90, current_date - n % 9, 63 from who where n % 10 <> 0;
    insert into avtryck.subject_day (subject, day, site, partner, kind, name, n, permit)
    select subject, current_date - (n + fact) % 30, 'shop', '', case fact when 3 then 'page' else 'event' end,
           case when fact = 3 then 'news' else 'look' end, 1 + n % 4, 63
    from who cross join generate_series(0, 3) as fact where n % 10 <> 0 order by 1, 2;
    insert into avtryck.attribute values (6, 'income_band', 'steps', 'financial', 'x', 'x', 500);
    insert into avtryck.import (name, supplier, legal_basis, purposes, key_kind, partner, columns, valid_from, valid_until)
    values ('bought', 'x', 'consent', '{profile}', 'visitor', '', '{6}', current_date - 9, current_date + 9);
    insert into avtryck.attribute_value (import, subject, key, \"values\", changed_at)
    select 1, subject, subject, array[(array['low', 'middle', 'high'])[1 + n % 3]], now() from who where n % 10 = 1;
    insert into avtryck.link_node (node, kind, device_group, proved_group, degree, first_day, last_day)
    select subject, 1, 1 + n / 8, 1 + n / 8, 1, current_date, current_date from who where n % 4 = 1;
    set session_replication_role = origin;
";

#[tokio::test]
#[ignore = "fills millions of subjects: `make bench-preview`"]
async fn a_preview_of_millions_takes_seconds() {
    let subjects = std::env::var("SEGMENT_SUBJECTS");
    let subjects: u64 = subjects.map_or(10_000_000, |text| text.parse().unwrap());
    let mut database = TestDatabase::migrated().await;
    let client = &mut database.client;
    let begun = Instant::now();
    let fill = FILL.replace("SUBJECTS", &subjects.to_string());
    client.batch_execute(&fill).await.unwrap();
    client.batch_execute("vacuum analyze").await.unwrap();
    eprintln!("{subjects} subjects, filled in {:.0?}", begun.elapsed());
    let segments = [
        ("looked", "events('look', '7 days') >= 2"),
        ("bought", "income_band >= 'high' and days_active >= 2"),
        ("here", "device_class = 'phone' and region = 'region 7'"),
        (
            "read",
            "pages('news', '14 days') between 1 and 3 and case when permits_link then in_segment('looked') \
             else permits_match end",
        ),
    ];
    let book = book(&segments);
    for segment in &book.segments {
        let begun = Instant::now();
        let ranges = [3, 47, 90, 131, 178, 222];
        let found = preview(client, segment, ranges).await.unwrap();
        let took = begun.elapsed();
        eprintln!(
            "{}: {took:.1?}, {:.0} members ({:.0} to {:.0})",
            segment.key, found.members[0], found.members[1], found.members[2]
        );
        assert!(found.sampled > 0 && took.as_secs() < 10, "{found:?}");
    }
}
