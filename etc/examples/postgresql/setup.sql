-- Once, on the first server, in the database "postgres": the role with which the servers connect to each other.
SET synchronous_commit = local;     -- there is no standby yet
CREATE ROLE replicator LOGIN REPLICATION;
GRANT pg_monitor TO replicator;     -- "standing" asks whether it is synchronous
-- pg_rewind reads files:
GRANT EXECUTE ON FUNCTION pg_catalog.pg_ls_dir(text, boolean, boolean) TO replicator;
GRANT EXECUTE ON FUNCTION pg_catalog.pg_stat_file(text, boolean) TO replicator;
GRANT EXECUTE ON FUNCTION pg_catalog.pg_read_binary_file(text) TO replicator;
GRANT EXECUTE ON FUNCTION pg_catalog.pg_read_binary_file(text, bigint, bigint, boolean) TO replicator;
