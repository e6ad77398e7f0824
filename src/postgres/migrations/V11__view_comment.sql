-- Each column of a view says what it holds: first what is peculiar to views, then the rest as in the tables.

comment on column avtryck.hit_detail.kind is 'page_view, event, impression, click, callback or sync.';
comment on column avtryck.hit_detail.site_category is 'The category of the page, where known.';
comment on column avtryck.hit_detail.network is 'Owner of the autonomous system.';
comment on column avtryck.hit_detail.device_class is 'phone, tablet, desktop, tv, console, car, watch, mail_proxy, bot or other.';
comment on column avtryck.hit_detail.device_brand is 'Maker of the device.';
comment on column avtryck.hit_detail.device_model is 'Model as the maker or the client hint names it.';
comment on column avtryck.hit_detail.flags is 'What is noteworthy about the hit, in words; docs/parameters.md and docs/reports.md explain them.';
comment on column avtryck.hit_detail.permit is 'What the visitor allowed: store, measure, profile, match, link, locate.';
comment on column avtryck.hit_detail.consent_source is 'The signal that decided the permit: default, choice, gpc, tcf, gpp or gdpr_0.';
comment on column avtryck.hit_detail.seen_before is 'Whether the subject had had an impression of the creative before; null where subject or creative is unknown.';

comment on column avtryck.hit_count_detail.site_category is 'The category of the page, where known.';
comment on column avtryck.hit_count_detail.kind is 'page_view, event, impression, click or callback.';

comment on column avtryck.exposure_part_detail.subject is 'As exposure.subject.';
comment on column avtryck.exposure_part_detail.creative_key is 'As exposure.creative_key.';
comment on column avtryck.exposure_part_detail.first_at is 'When the first impression was received; where there is none, the first click.';
comment on column avtryck.exposure_part_detail.last_at is 'When the last impression was received; where there is none, the last click.';
comment on column avtryck.exposure_part_detail.impressions is 'How many impressions.';
comment on column avtryck.exposure_part_detail.clicks is 'How many clicks.';

comment on column avtryck.hit_day.day is 'The UTC day.';

comment on column avtryck.conversion_path.day is 'The UTC day of the conversion.';
comment on column avtryck.conversion_path.converted_at is 'When the conversion was received.';
comment on column avtryck.conversion_path.hit_id is 'The ID of the conversion''s row in hit.';
comment on column avtryck.conversion_path.site is 'The site of the click or, without one, of the conversion.';
comment on column avtryck.conversion_path.params is 'What else the sender of the conversion added.';
comment on column avtryck.conversion_path.is_valid is 'Whether conversion and click count in net figures.';
comment on column avtryck.conversion_path.linked_by is 'What led to the ad: click_id, visitor (its last click), ad (which the conversion names) or impression.';
comment on column avtryck.conversion_path.click_id is 'The ID of the click.';
comment on column avtryck.conversion_path.click_hit_id is 'The ID of the click''s row in hit.';
comment on column avtryck.conversion_path.clicked_at is 'When the click was received.';
comment on column avtryck.conversion_path.impression_hit_id is 'The ID of the row in hit of the impression before it.';
comment on column avtryck.conversion_path.seen_at is 'When that impression was received.';
comment on column avtryck.conversion_path.exposure_number is 'Which impression of the creative it was for the subject.';

do $$
declare
    report text;
begin
    foreach report in array array['campaign_daily', 'placement_daily'] loop
        execute format('comment on column avtryck.%I.day is %L', report, 'The UTC day.');
        execute format('comment on column avtryck.%I.gross_impressions is %L', report, 'Impressions, invalid ones included.');
        execute format('comment on column avtryck.%I.net_impressions is %L', report, 'Valid impressions.');
        execute format('comment on column avtryck.%I.unique_visitors is %L', report,
            'Subjects with a valid impression: visitors, or mobile advertising IDs or partners'' IDs where there is no visitor.');
        execute format('comment on column avtryck.%I.frequency is %L', report, 'Valid impressions for each of them.');
        execute format('comment on column avtryck.%I.gross_clicks is %L', report, 'Clicks, invalid ones included.');
        execute format('comment on column avtryck.%I.net_clicks is %L', report, 'Valid clicks.');
        execute format('comment on column avtryck.%I.ctr is %L', report, 'Valid clicks for each valid impression.');
        execute format('comment on column avtryck.%I.gross_conversions is %L', report,
            'Conversions that a click or their sender ascribes to the ad, invalid ones included.');
        execute format('comment on column avtryck.%I.net_conversions is %L', report, 'The valid ones of them.');
        execute format('comment on column avtryck.%I.unmeasured_impressions is %L', report, 'Impressions without the permit measure.');
        execute format('comment on column avtryck.%I.unmeasured_clicks is %L', report, 'Clicks without the permit measure.');
    end loop;
end $$;
comment on column avtryck.campaign_daily.device_class is 'phone, tablet, desktop, tv, console, car, watch, mail_proxy, bot or other; null for hits without the permit measure.';

-- What has the name of a column of a table, and no comment yet, is that column.
do $$
declare
    bare record;
begin
    for bare in
        select view.relname as view, shown.attname as column, told.description
        from pg_class as view
        join pg_attribute as shown on shown.attrelid = view.oid and shown.attnum > 0
        cross join lateral (
            select col_description(stored.attrelid, stored.attnum) as description
            from unnest(array['hit', 'site', 'place', 'network', 'device', 'ad', 'exposure', 'hit_count'])
                 with ordinality as source (name, rank)
            join pg_attribute as stored on stored.attrelid = to_regclass('avtryck.' || source.name)
                                       and stored.attname = shown.attname
            order by rank limit 1) as told
        where view.relnamespace = 'avtryck'::regnamespace and view.relkind = 'v'
          and col_description(view.oid, shown.attnum) is null
    loop
        execute format('comment on column avtryck.%I.%I is %L', bare.view, bare.column, bare.description);
    end loop;
end $$;

comment on table avtryck.migration is 'The migrations that were applied.';
comment on column avtryck.migration.version is 'Its number.';
comment on column avtryck.migration.name is 'Its name.';
comment on column avtryck.migration.applied_on is 'When it was applied.';
comment on column avtryck.migration.checksum is 'A hash of its text: one that was applied must not change.';
