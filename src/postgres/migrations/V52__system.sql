-- The flags of events that an own system sent, and of hits whose user_sig is wrong.

comment on column avtryck.hit.flags is 'Set: 1 cleaned, 2 truncated, 4 macro, 8 prefetch, 16 new_visitor, 32 foreign_origin, 64 third_party, 128 over_limit, 256 preview, 512 bad_agent, 1024 data_centre, 2048 no_impression, 4096 fast_click, 8192 replayed, 16384 bot, 262144 system, 524288 wrong_clock, 1048576 mail_proxy, 2097152 id_conflict, 4194304 device_later, 8388608 other_ad, 16777216 foreign_click, 33554432 clock, 67108864 schema, 134217728 proved, 268435456 bad_user_sig, 536870912 signed_only, 1073741824 signed.';

create or replace function avtryck.flag_names(flags integer) returns text[] language sql immutable parallel safe
    return array_remove(array[
        case when flags & 1 <> 0 then 'cleaned' end,
        case when flags & 2 <> 0 then 'truncated' end,
        case when flags & 4 <> 0 then 'macro' end,
        case when flags & 8 <> 0 then 'prefetch' end,
        case when flags & 16 <> 0 then 'new_visitor' end,
        case when flags & 32 <> 0 then 'foreign_origin' end,
        case when flags & 64 <> 0 then 'third_party' end,
        case when flags & 128 <> 0 then 'over_limit' end,
        case when flags & 256 <> 0 then 'preview' end,
        case when flags & 512 <> 0 then 'bad_agent' end,
        case when flags & 1024 <> 0 then 'data_centre' end,
        case when flags & 2048 <> 0 then 'no_impression' end,
        case when flags & 4096 <> 0 then 'fast_click' end,
        case when flags & 8192 <> 0 then 'replayed' end,
        case when flags & 16384 <> 0 then 'bot' end,
        case when flags & 262144 <> 0 then 'system' end,
        case when flags & 524288 <> 0 then 'wrong_clock' end,
        case when flags & 1048576 <> 0 then 'mail_proxy' end,
        case when flags & 2097152 <> 0 then 'id_conflict' end,
        case when flags & 4194304 <> 0 then 'device_later' end,
        case when flags & 8388608 <> 0 then 'other_ad' end,
        case when flags & 16777216 <> 0 then 'foreign_click' end,
        case when flags & 33554432 <> 0 then 'clock' end,
        case when flags & 67108864 <> 0 then 'schema' end,
        case when flags & 134217728 <> 0 then 'proved' end,
        case when flags & 268435456 <> 0 then 'bad_user_sig' end,
        case when flags & 536870912 <> 0 then 'signed_only' end,
        case when flags & 1073741824 <> 0 then 'signed' end], null);
