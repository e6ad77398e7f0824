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
       current_setting('max_connections')::int
from pg_database as database
join pg_roles as role on role.rolname = current_user
left join pg_namespace as schema on schema.nspname = 'avtryck'
where database.datname = current_database()
