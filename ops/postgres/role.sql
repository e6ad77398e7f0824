-- Makes the role that a collector connects as, with what it needs and nothing more. Run this with psql (14 or newer) as a
-- superuser, in the database that the collector is to use:
--
--   createdb --encoding UTF8 --template template0 avtryck
--   AVTRYCK_PASSWORD=… psql --dbname avtryck --file ops/postgres/role.sql
--
-- The role is called avtryck, unless `--set role=NAME` says otherwise.

\set ON_ERROR_STOP on
\getenv password AVTRYCK_PASSWORD
\if :{?role}
\else
    \set role avtryck
\endif

create role :"role" login password :'password';
-- Everybody else would have all of that, which others need to be granted from now on.
revoke all on database :"DBNAME" from public;
revoke create on schema public from public;
grant connect on database :"DBNAME" to :"role";
-- Households and imports sort what they read into tables that last for one transaction.
grant temporary on database :"DBNAME" to :"role";
-- It makes its tables there, a new one each day, and owns them. It has no rights anywhere else.
create schema avtryck authorization :"role";
