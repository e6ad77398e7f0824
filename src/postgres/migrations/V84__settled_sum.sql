-- Hits that are some minutes late take the sums of a day with them only where these reach up to them.

create or replace function avtryck.build_report_span(since timestamptz, until timestamptz) returns void language plpgsql as $$
declare
    of_day date := (since at time zone 'UTC')::date;
    opens timestamptz := avtryck.day_start((since at time zone 'UTC')::date);
    whole timestamptz := avtryck.day_start((since at time zone 'UTC')::date + 1);
    first_gap timestamptz;
    settled timestamptz;
begin
    insert into avtryck.report_span values (since, until);
    perform avtryck.build_ad_hour(since, until);
    perform avtryck.build_ad_day(since, until);
    -- Conversions are known up to the first gap. Where that is marked meanwhile, they go with the mark.
    select min(gap.begins) into first_gap from avtryck.report_gap(opens, whole) as gap;
    perform avtryck.build_conversions(of_day, coalesce(first_gap, whole));
    -- The last day is summed up to between half an hour and an hour and a half ago: sums take as long whatever they add,
    -- and a hit that is late takes them all. Days before it, which an upgrade rolls up, are stored soon.
    if first_gap is null or exists (select from avtryck.report_span where report_span.begins >= whole) then
        return;
    end if;
    select max(report_span.begins) into settled
    from avtryck.report_span
    where report_span.begins >= opens and report_span.begins <= first_gap - interval '30 minutes';
    if settled >= interval '1 hour' + coalesce((select known from avtryck.ad_sum_day where day = of_day), opens) then
        perform avtryck.build_ad_sum(of_day, settled);
    end if;
end $$;
