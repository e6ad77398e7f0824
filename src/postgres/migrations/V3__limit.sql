-- Hits of a client that sends more than its limit are flagged.

create or replace function avtryck.flag_names(flags integer) returns text[] language sql immutable parallel safe
    return array_remove(array[
        case when flags & 1 <> 0 then 'cleaned' end,
        case when flags & 2 <> 0 then 'truncated' end,
        case when flags & 4 <> 0 then 'macro' end,
        case when flags & 8 <> 0 then 'prefetch' end,
        case when flags & 16 <> 0 then 'new_visitor' end,
        case when flags & 32 <> 0 then 'foreign_origin' end,
        case when flags & 64 <> 0 then 'third_party' end,
        case when flags & 128 <> 0 then 'over_limit' end], null);
comment on column avtryck.hit.flags is 'Set: 1 cleaned, 2 truncated, 4 macro, 8 prefetch, 16 new_visitor, 32 foreign_origin, 64 third_party, 128 over_limit.';
