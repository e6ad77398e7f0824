-- Two roles for people who read: avtryck_reader has reports and roll-ups, avtryck_analyst every view besides, hit_detail
-- among them. Neither can log in: grant them to roles that do. Where the owner may not create roles, whoever may does
-- it once, and the next start grants.
do $$
declare
    reader name;
    readable text;
begin
    foreach reader in array array['avtryck_reader', 'avtryck_analyst'] loop
        begin
            if not exists (select from pg_roles where rolname = reader) then
                execute format('create role %I nologin', reader);
            end if;
        exception when insufficient_privilege or duplicate_object or unique_violation then
            -- Another collector has just made it, or nobody may.
            null;
        end;
    end loop;
    if exists (select from pg_roles where rolname = 'avtryck_reader') then
        grant usage on schema avtryck to avtryck_reader;
        foreach readable in array array[
            'campaign_daily', 'placement_daily', 'campaign_quality', 'campaign_hourly', 'campaign_view', 'campaign_invalid',
            'campaign_value', 'campaign_cost', 'web_daily', 'web_page_daily', 'web_event_daily', 'web_search_daily', 'ad_hour', 'ad_hour_detail', 'campaign_day', 'placement_day', 'quality_day',
            'report_span', 'report_mark', 'report_clean', 'report_day', 'hit_day', 'site_day', 'site_zone', 'site_in_zone', 'hit_count_detail', 'site', 'ad', 'web_day',
            'web_page_day', 'web_event_day', 'web_search_day'
        ] loop
            execute format('grant select on avtryck.%I to avtryck_reader', readable);
        end loop;
    end if;
    if exists (select from pg_roles where rolname = 'avtryck_analyst') then
        grant usage on schema avtryck to avtryck_analyst;
        for readable in
            select relname from pg_class
            where relnamespace = 'avtryck'::regnamespace and relkind = 'v' and pg_has_role(relowner, 'usage')
        loop
            execute format('grant select on avtryck.%I to avtryck_analyst', readable);
        end loop;
        -- The dimensions: tables that a column of hit points to.
        for readable in
            select relname from pg_class
            join pg_attribute on attrelid = 'avtryck.hit'::regclass and attname = relname || '_key' and not attisdropped
            where relnamespace = 'avtryck'::regnamespace and relkind = 'r'
        loop
            execute format('grant select on avtryck.%I to avtryck_analyst', readable);
        end loop;
        foreach readable in array array[
            'hit', 'late_hit', 'hit_count', 'exposure', 'campaign_cost',
            'ad_hour', 'ad_day', 'audience', 'ad_sum', 'ad_sum_day', 'conversion_link', 'conversion_day', 'campaign_day', 'placement_day', 'quality_day', 'report_span', 'report_mark', 'report_day',
            'web_day', 'web_page_day', 'web_event_day', 'web_search_day', 'web_sum', 'web_page_sum', 'web_sum_day', 'site_zone', 'report_path_mark'
        ] loop
            execute format('grant select on avtryck.%I to avtryck_analyst', readable);
        end loop;
    end if;
end $$;
