-- Which rows an update changed is found by grouping their two versions, not by joining them: an import turns off the joins
-- that are meant for many rows, so each of a portion's 20,000 old versions was compared with each of its new ones.

create or replace function avtryck.touch_reimported() returns trigger language plpgsql as $$
begin
    perform avtryck.touch_subjects(array(
        select subject from (
            select subject, import, "values", ended_at, valid_until, false as is_new from former
            union all
            select subject, import, "values", ended_at, valid_until, true from changed
        ) as version
        group by subject, import
        having min("values") <> max("values") or count(ended_at) = 1 or min(ended_at) <> max(ended_at)
            or max(valid_until) filter (where is_new) < max(valid_until) filter (where not is_new)
    ));
    return null;
end
$$;

create or replace function avtryck.touch_moved() returns trigger language plpgsql as $$
begin
    perform avtryck.touch_subjects(array(
        with moved as (
            select node, array_agg(proved_group) as both_groups
            from (select node, proved_group from former union all select node, proved_group from changed) as version
            group by node having min(proved_group) <> max(proved_group)
        )
        select node from moved
        union
        select other.node
        from (select distinct unnest(both_groups) as proved_group from moved) as each_group
        join avtryck.link_node as other using (proved_group)
        where proved_group <> 0
    ));
    return null;
end
$$;
