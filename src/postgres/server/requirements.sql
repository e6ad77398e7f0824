-- What the server, the database and the role are like.
select current_setting('server_version_num')::int,
       pg_encoding_to_char(database.encoding)::text,
       pg_is_in_recovery(),
       current_setting('default_transaction_read_only')::bool,
       database.datname::text,
       current_user::text,
       schema.oid is not null,
       has_database_privilege(database.oid, 'create'),
       coalesce(has_schema_privilege(schema.oid, 'create') and has_schema_privilege(schema.oid, 'usage'), false),
       coalesce((select pg_has_role(relowner, 'usage') from pg_class
                 where relnamespace = schema.oid and relname = 'hit'), true),
       case when role.rolsuper then -1 else role.rolconnlimit end,
       case when role.rolsuper then -1 else database.datconnlimit end,
       current_setting('max_connections')::int,
       -- What the server, the database or the role says otherwise than a collector's connections do.
       array(select name || ' = ' || reset_val from pg_settings
             where name in ('statement_timeout', 'lock_timeout', 'transaction_timeout', 'idle_session_timeout')
                   and reset_val <> '0'
                or name = 'synchronous_commit' and reset_val not in ('on', 'remote_apply')
             order by name),
       array(select name from pg_settings where name in ('fsync', 'full_page_writes') and setting = 'off' order by name),
       current_setting('synchronous_standby_names') = ''
           and exists (select from pg_stat_replication where coalesce(application_name, '') <> 'pg_basebackup')
from pg_database as database
join pg_roles as role on role.rolname = current_user
left join pg_namespace as schema on schema.nspname = 'avtryck'
where database.datname = current_database()
