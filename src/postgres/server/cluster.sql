-- Which cluster this is, and its timeline, which each promotion of a standby raises. A standby has none.
select system_identifier,
       case when not pg_is_in_recovery()
            then ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int end
from pg_control_system()
