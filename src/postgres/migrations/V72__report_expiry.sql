-- The hits of a day expire alone: the days after it keep what is stored of them.

create function avtryck.forget_expired_day(day date) returns void language plpgsql as $$
begin
    perform avtryck.report_lock();
    perform avtryck.forget_report_spans(array(
        select begins from avtryck.report_span
        where begins >= avtryck.day_start(forget_expired_day.day) and begins < avtryck.day_start(forget_expired_day.day + 1)));
    perform avtryck.forget_report_days(array[forget_expired_day.day]);
end $$;
comment on function avtryck.forget_expired_day is 'Deletes the roll-ups and the stored reports of a day whose hits expire. Conversions of the days after it stay with their clicks and impressions of that day: to compute those days again at each expiry would be as much work as a month of hits, and take from each what it rightly said.';

create or replace function avtryck.forget_report_of(day date) returns void language plpgsql as $$
begin
    perform avtryck.forget_expired_day(forget_report_of.day);
    perform avtryck.forget_report_days(array(
        select report_day.day from avtryck.report_day
        where report_day.day between forget_report_of.day and forget_report_of.day + 30));
end $$;

create or replace function avtryck.take_report_marks() returns bigint language plpgsql as $$
declare
    slots timestamptz[];
    moving timestamptz[];
    spans timestamptz[];
begin
    perform avtryck.report_lock();
    -- Somebody may have dropped a partition by hand.
    perform avtryck.forget_expired_day(gone.day)
    from (select (begins at time zone 'UTC')::date as day from avtryck.report_span
          union select day from avtryck.report_day
          except select day from avtryck.hit_day) as gone;
    with taken as (delete from avtryck.report_mark returning at, moves_conversions)
    select array_agg(distinct at), array_agg(distinct at) filter (where moves_conversions) into slots, moving from taken;
    if slots is null then
        return 0;
    end if;
    select array_agg(distinct begins) into spans
    from unnest(slots) as slot join avtryck.report_span on slot >= begins and slot < ends;
    perform avtryck.forget_report_spans(spans);
    perform avtryck.forget_report_days(array(
        select distinct report_day.day
        from (select (slot at time zone 'UTC')::date as first, max(case when slot = any(moving) then 30 else 0 end) as days
              from unnest(slots) as slot group by 1) as changed
        join avtryck.report_day on report_day.day between changed.first and changed.first + changed.days));
    return coalesce(cardinality(spans), 0);
end $$;
