#!/bin/sh
# Run once by the image of PostgreSQL, on an empty data directory.
set -eu
psql --username "${POSTGRES_USER:-postgres}" --dbname postgres -v ON_ERROR_STOP=1 \
    -v prefect_password="$PREFECT_PASSWORD" -v upkeep_password="$UPKEEP_PASSWORD" \
    -f /etc/upkeep/postgres.sql
