-- Two databases with a role each: Prefect's bookkeeping and Upkeep's store cannot touch each other.
--
--   psql -v ON_ERROR_STOP=1 -v prefect_password=... -v upkeep_password=... -f postgres.sql

CREATE ROLE prefect LOGIN PASSWORD :'prefect_password';
CREATE ROLE upkeep LOGIN PASSWORD :'upkeep_password';

CREATE DATABASE prefect OWNER prefect;
CREATE DATABASE upkeep OWNER upkeep;

REVOKE CONNECT, TEMPORARY ON DATABASE prefect FROM PUBLIC;
REVOKE CONNECT, TEMPORARY ON DATABASE upkeep FROM PUBLIC;

-- Prefect's migrations want trigram indexes; creating the extension needs a superuser on older servers.
\connect prefect
CREATE EXTENSION IF NOT EXISTS pg_trgm;
