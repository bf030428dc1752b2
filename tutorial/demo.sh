#!/bin/sh
# A row a second into a distributed table, through whichever coordinator takes writes. Says when
# that fails, and how long it took until it worked again. PGHOST and its like come from outside.

trap 'exit 0' TERM INT

run() { psql --no-psqlrc --quiet --tuples-only --no-align --set ON_ERROR_STOP=1 --command "$1" 2>/dev/null; }
workers() { run 'select count(*) from citus_get_active_worker_nodes()' || echo 0; }

echo "waiting for ${WORKERS:=3} workers"
while [ "$(workers)" -lt "$WORKERS" ]; do sleep 1; done
until run 'create table if not exists visits (id bigint primary key, at timestamptz not null default now())'; do
    sleep 1
done
run "select create_distributed_table('visits', 'id')
     where not exists (select from pg_dist_partition where logicalrelid = 'visits'::regclass)" > /dev/null
id=$(run 'select coalesce(max(id), 0) from visits')
echo "writing a row a second"

failing=
while :; do
    id=$((id + 1))
    # The same row until it is there: an answer that was lost is no second visit.
    until run "insert into visits (id) values ($id) on conflict do nothing"; do
        if [ -z "$failing" ]; then failing=$(date +%s); echo "$(date +%T) visit $id: refused"; fi
        sleep 0.2
    done
    if [ -n "$failing" ]; then
        echo "$(date +%T) visit $id: written after $(($(date +%s) - failing)) s"
        failing=
    fi
    sleep 1 &
    wait $!
done
