-- Sums of a day that is not over are brought up to ten minutes ago, and late hits take them at most so often that making
-- them anew costs a twentieth of a core.

alter table avtryck.ad_sum_day add column begun_at timestamptz not null default '-infinity', add column took interval not null default '0';
alter table avtryck.web_sum_day add column took interval not null default '0';
comment on column avtryck.ad_sum_day.known is 'The end of what is summed up: this moment no longer belongs to it. The start of the day where nothing is, because hits before it came late.';
comment on column avtryck.ad_sum_day.begun_at is 'When the sums were begun anew.';
comment on column avtryck.ad_sum_day.took is 'How long that took.';
comment on column avtryck.web_sum_day.took is 'How long that took.';

create function avtryck.may_begin_sums(at timestamptz, begun_at timestamptz, took interval) returns boolean language sql volatile
begin atomic
    select coalesce(begun_at <= clock_timestamp() - greatest(interval '10 minutes', 20 * took), true)
        or pg_relation_size(to_regclass('avtryck.hit_' || to_char(at at time zone 'UTC', 'YYYYMMDD'))) <= avtryck.web_begin_max();
end;
comment on function avtryck.may_begin_sums is 'Whether sums of a day, of whose UTC day a time is, may be begun anew, that were begun last at a time and took so long.';
comment on function avtryck.web_begin_max is 'Of how many bytes of hits of a UTC day its sums are begun anew each time that late hits took them; of a larger day, every ten minutes at most, and not before 20 times as long as it took has passed.';

create or replace function avtryck.build_ad_sum(day date, own_zone text, until timestamptz) returns void language plpgsql as $$
declare
    started timestamptz := clock_timestamp();
    opens timestamptz := avtryck.zone_start(build_ad_sum.day, own_zone);
    is_anew boolean := not exists (
        select from avtryck.ad_sum_day
        where ad_sum_day.day = build_ad_sum.day and ad_sum_day.time_zone = own_zone and ad_sum_day.known > opens
          and not avtryck.is_marked(opens, ad_sum_day.known));
begin
    if is_anew then
        delete from avtryck.ad_sum where ad_sum.day = build_ad_sum.day and ad_sum.time_zone = own_zone;
    end if;
    with fresh as materialized (
        select ad_report.is_by_placement, sums.*
        from unnest(array[false, true]) as ad_report (is_by_placement)
        cross join lateral avtryck.ad_sum_of(build_ad_sum.day, own_zone, ad_report.is_by_placement, until) as sums
    )
    insert into avtryck.ad_sum as kept
    select build_ad_sum.day, fresh.*, own_zone from fresh
    on conflict on constraint ad_sum_pkey do update set
        gross_impressions = excluded.gross_impressions, net_impressions = excluded.net_impressions, visitors = excluded.visitors,
        shown = excluded.shown, gross_clicks = excluded.gross_clicks, net_clicks = excluded.net_clicks,
        unmeasured_impressions = excluded.unmeasured_impressions, unmeasured_clicks = excluded.unmeasured_clicks
    where kept.* is distinct from excluded.*;
    insert into avtryck.ad_sum_day (day, time_zone, known, begun_at, took)
    values (build_ad_sum.day, own_zone, until, started, clock_timestamp() - started)
    on conflict on constraint ad_sum_day_pkey do update set
        known = excluded.known, begun_at = case when is_anew then excluded.begun_at else ad_sum_day.begun_at end,
        took = case when is_anew then excluded.took else ad_sum_day.took end;
end $$;

create or replace function avtryck.forget_sums(spans timestamptz[]) returns void language plpgsql as $$
declare
    own record;
begin
    for own in
        select day, time_zone, avtryck.zone_start(day, time_zone) as begins from avtryck.ad_sum_day
        where spans is null
           or exists (select from unnest(spans) as span where span < known and span >= avtryck.zone_start(day, time_zone))
    loop
        delete from avtryck.ad_sum where ad_sum.day = own.day and ad_sum.time_zone = own.time_zone;
        update avtryck.ad_sum_day set known = own.begins where ad_sum_day.day = own.day and ad_sum_day.time_zone = own.time_zone;
    end loop;
    for own in
        select day, time_zone, avtryck.zone_start(day, time_zone) as begins from avtryck.web_sum_day
        where spans is null
           or exists (select from unnest(spans) as span where span < known and span >= avtryck.zone_start(day, time_zone))
    loop
        perform avtryck.drop_web_sum(own.day, own.time_zone);
        update avtryck.web_sum_day set known = own.begins where day = own.day and time_zone = own.time_zone;
    end loop;
end $$;

create or replace function avtryck.build_sums(at timestamptz) returns void language plpgsql as $$
#variable_conflict use_column
declare
    own record;
    kept record;
    started timestamptz;
    settled timestamptz;
begin
    for own in select * from avtryck.zone_day_at(build_sums.at) loop
        select known, begun_at, took into kept from avtryck.ad_sum_day where ad_sum_day.day = own.day and time_zone = own.time_zone;
        settled := avtryck.sum_target(own.begins, own.ends, kept.known, interval '10 minutes', interval '10 minutes');
        if settled is not null and (kept.known > own.begins or avtryck.may_begin_sums(build_sums.at, kept.begun_at, kept.took)) then
            perform avtryck.build_ad_sum(own.day, own.time_zone, settled);
        end if;
        select known, begun_at, took into kept from avtryck.web_sum_day where web_sum_day.day = own.day and time_zone = own.time_zone;
        settled := avtryck.sum_target(own.begins, own.ends, kept.known, interval '10 minutes', interval '10 minutes');
        if settled is not null and (kept.known > own.begins or avtryck.may_begin_sums(build_sums.at, kept.begun_at, kept.took)) then
            started := clock_timestamp();
            perform avtryck.build_web_sum(own.day, own.time_zone, settled);
            update avtryck.web_sum_day set took = clock_timestamp() - started
            where web_sum_day.day = own.day and time_zone = own.time_zone and begun_at >= started;
        end if;
    end loop;
end $$;
