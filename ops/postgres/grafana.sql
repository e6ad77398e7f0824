-- Makes a role that reads reports and nothing else, for Grafana. Run this with psql (14 or newer) as a superuser, in the
-- database that the collector uses, then start the collector: at each start it grants avtryck_reader what it may read.
--
--   GRAFANA_DATABASE_PASSWORD=… psql --dbname avtryck --file ops/postgres/grafana.sql
--
-- The role is called grafana, unless `--set grafana=NAME` says otherwise. It may be run again.

\set ON_ERROR_STOP on
\getenv grafana_password GRAFANA_DATABASE_PASSWORD
\if :{?grafana}
\else
    \set grafana grafana
\endif

select format('create role %I nologin', name)
from unnest(array['avtryck_reader', 'avtryck_analyst']) as needed (name)
where not exists (select from pg_roles where rolname = needed.name) \gexec
select format('create role %I', :'grafana') where not exists (select from pg_roles where rolname = :'grafana') \gexec
alter role :"grafana" login password :'grafana_password';
grant avtryck_reader to :"grafana";
grant connect on database :"DBNAME" to :"grafana";
alter role :"grafana" set default_transaction_read_only = on;
-- A query that takes longer slows down what the collector does.
alter role :"grafana" set statement_timeout = '30s';
