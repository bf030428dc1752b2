//! The text of both files.

use std::fmt::Write as _;

use super::scan::Settings;
use super::{CitusSettings, Defaults, Enforced, Replication};

/// First line of each file of ours, as the old program writes it.
pub(super) const HEADER: &str = "# Settings by pg_auto_failover\n";

/// What the old program sets: enough for ten standbys, a base backup and a spare.
const SENDERS_AND_SLOTS: u32 = 12;

/// The old program's list (`defaults.h`, `DEFAULT_SSL_CIPHERS`).
const SSL_CIPHERS: &str = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:\
ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384:\
ECDHE-ECDSA-AES128-SHA256:ECDHE-ECDSA-AES256-SHA384:\
ECDHE-RSA-AES128-SHA256:ECDHE-RSA-AES256-SHA384";

const MB: u64 = 1 << 20;
const GB: u64 = 1 << 30;

/// Lines of `name = value`.
struct Lines(String);

impl Lines {
    fn new() -> Self {
        Self(HEADER.to_owned())
    }

    fn bare(&mut self, name: &str, value: impl std::fmt::Display) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{name} = {value}");
    }

    fn quoted(&mut self, name: &str, value: &str) {
        let value = value
            .replace('\\', "\\\\")
            .replace('\'', "''")
            .replace('\n', "\\n");
        self.bare(name, format_args!("'{value}'"));
    }
}

/// `'6026 MB'` up to 10 GB, then `'17 GB'`, as the old program prints sizes.
fn size(bytes: u64) -> String {
    if bytes > 10 * GB {
        format!("'{} GB'", bytes / GB)
    } else {
        format!("'{} MB'", bytes / MB)
    }
}

/// WAL kept for a standby that has no slot yet and for `pg_rewind`. The old program keeps 8 GB
/// whatever the disk; this is its value on a disk of 128 GB and more, and never more than a
/// sixteenth of the disk, so that keeping WAL cannot fill a small one. Slots hold what standbys
/// need beyond that.
fn wal_keep(disk: u64) -> u64 {
    (disk / 16).clamp(128 * MB, 8 * GB)
}

/// What a slot may hold back for a standby that is away: a quarter of the disk, at most 64 GB.
/// Beyond, the slot is invalidated and the standby takes a base backup: better than a primary that
/// stops because its disk is full. Chosen, no measurement.
fn slot_keep(disk: u64) -> u64 {
    (disk / 4).clamp(GB, 64 * GB)
}

/// `postgresql-auto-failover.conf`.
pub(super) fn defaults(d: &Defaults) -> String {
    let mut lines = Lines::new();
    if d.stat_statements {
        lines.quoted("shared_preload_libraries", "pg_stat_statements");
    }
    lines.quoted("log_destination", "stderr");
    lines.bare("logging_collector", "on");
    lines.quoted("log_directory", "log");
    lines.bare("log_min_messages", "info");
    lines.bare("log_connections", "off");
    lines.bare("log_disconnections", "off");
    lines.bare("log_lock_waits", "on");
    if d.major >= 13 {
        lines.bare("wal_keep_size", size(wal_keep(d.disk_bytes)));
        lines.bare("max_slot_wal_keep_size", size(slot_keep(d.disk_bytes)));
    } else {
        lines.bare("wal_keep_segments", wal_keep(d.disk_bytes) / (16 * MB));
    }
    if d.major >= 14 {
        // Crash recovery begins by syncing every file of the data directory: 0.75 s one by one for
        // a new cluster here, on the path of every restart in place.
        lines.bare("recovery_init_sync_method", "syncfs");
    }
    if d.ssl {
        lines.quoted("ssl_ciphers", SSL_CIPHERS);
    }
    tuning(&mut lines, d);
    lines.0
}

/// The old program's table (`pgtuning.c`).
fn tuning(lines: &mut Lines, d: &Defaults) {
    lines
        .0
        .push_str("# basic tuning computed by pg_auto_failover\n");
    let ram = d.memory_bytes;
    let (shared, work, maintenance) = if ram <= 8 * GB {
        (ram / 4, 16 * MB, 256 * MB)
    } else if ram <= 64 * GB {
        (ram / 4, 24 * MB, 512 * MB)
    } else if ram <= 256 * GB {
        (16 * GB, 32 * MB, GB)
    } else {
        (32 * GB, 64 * MB, 2 * GB)
    };
    let workers = match d.cpus {
        0..16 => 3,
        16..24 => 4,
        24..32 => 6,
        32..48 => 8,
        48..64 => 12,
        64.. => 16,
    };
    lines.bare("track_functions", "pl");
    lines.bare("shared_buffers", size(shared));
    lines.bare("work_mem", size(work));
    lines.bare("maintenance_work_mem", size(maintenance));
    lines.bare("effective_cache_size", size(ram - shared));
    lines.bare("autovacuum_max_workers", workers);
    lines.bare("autovacuum_vacuum_scale_factor", "0.08");
    lines.bare("autovacuum_analyze_scale_factor", "0.02");
}

/// `postgresql-auto-failover-enforced.conf`. `users` is what the user set: where a higher value
/// serves us as well, it stays.
pub(super) fn enforced(e: &Enforced, users: &Settings) -> String {
    let mut lines = Lines::new();
    lines.quoted("listen_addresses", &e.listen_addresses);
    lines.bare("port", e.port);
    if let Some(dir) = &e.socket_dir {
        lines.quoted("unix_socket_directories", dir);
    }
    let logical = e.logical || users.get("wal_level").is_some_and(|v| v == "logical");
    lines.bare("wal_level", if logical { "logical" } else { "replica" });
    lines.bare("wal_log_hints", "on");
    lines.bare("hot_standby", "on");
    lines.bare("hot_standby_feedback", "on");
    for name in ["max_wal_senders", "max_replication_slots"] {
        let own: Option<u32> = users.get(name).and_then(|v| v.parse().ok());
        lines.bare(name, own.unwrap_or(0).max(SENDERS_AND_SLOTS));
    }
    // On the path of every failover, and of every commit after a restart of a standby: Postgres'
    // 5 s and 10 s are replaced (`design.md` §5).
    lines.quoted("wal_retrieve_retry_interval", "100ms");
    lines.quoted("wal_receiver_status_interval", "1s");
    let timeout = e.receiver_timeout.as_millis();
    lines.quoted("wal_receiver_timeout", &format!("{timeout}ms"));
    lines.quoted("wal_sender_timeout", "30s");
    let apply = users
        .get("synchronous_commit")
        .is_some_and(|v| v == "remote_apply");
    lines.bare(
        "synchronous_commit",
        if apply { "remote_apply" } else { "on" },
    );
    match e.auth_method.as_str() {
        "md5" => lines.quoted("password_encryption", "md5"),
        "scram-sha-256" | "password" => lines.quoted("password_encryption", "scram-sha-256"),
        _ => {}
    }
    if let Some(citus) = &e.citus {
        self::citus(&mut lines, citus, users);
    }
    ssl(&mut lines, e);
    lines.quoted("synchronous_standby_names", &e.names.to_setting());
    replication(&mut lines, e);
    lines.0
}

/// Citus must be the first library. Its daemon's recovery of distributed transactions is off: only
/// the keeper of a present primary runs it (`safety.md` §9.4).
fn citus(lines: &mut Lines, citus: &CitusSettings, users: &Settings) {
    let others = users
        .get("shared_preload_libraries")
        .map_or("", String::as_str);
    let mut libraries = vec!["citus"];
    libraries.extend(
        others
            .split(',')
            .map(str::trim)
            .filter(|l| !l.is_empty() && *l != "citus"),
    );
    lines.quoted("shared_preload_libraries", &libraries.join(","));
    lines.quoted("citus.node_conninfo", &citus.node_conninfo);
    lines.quoted("citus.local_hostname", &citus.local_hostname);
    lines.bare("citus.recover_2pc_interval", -1);
    // `COMMIT PREPARED` does not start a metadata sync: the daemon's next round does (60 s and 5 s
    // by default).
    lines.quoted("citus.metadata_sync_interval", "500ms");
    lines.quoted("citus.metadata_sync_retry_interval", "200ms");
    if let Some(cluster) = &citus.replica_of {
        lines.quoted("citus.cluster_name", cluster);
        lines.quoted("citus.use_secondary_nodes", "always");
    }
}

fn ssl(lines: &mut Lines, e: &Enforced) {
    let Some(files) = &e.ssl else {
        lines.bare("ssl", "off");
        return;
    };
    lines.bare("ssl", "on");
    let named = [
        ("ssl_cert_file", &files.cert),
        ("ssl_key_file", &files.key),
        ("ssl_ca_file", &files.ca),
        ("ssl_crl_file", &files.crl),
    ];
    for (name, path) in named {
        if let Some(path) = path {
            lines.quoted(name, &path.to_string_lossy());
        }
    }
}

fn replication(lines: &mut Lines, e: &Enforced) {
    let (conninfo, slot) = match &e.replication {
        Replication::Follow(upstream) => {
            let mut conninfo = upstream.conninfo.clone();
            conninfo.application_name = Some(upstream.slot.clone());
            (conninfo.to_keywords(), upstream.slot.as_str())
        }
        Replication::Primary | Replication::Promise | Replication::Detached => (String::new(), ""),
    };
    lines.quoted("primary_conninfo", &conninfo);
    lines.quoted("primary_slot_name", slot);
    lines.quoted("recovery_target_timeline", "latest");
    // No target of an older restore or fast-forward survives a change of role.
    for target in ["", "_lsn", "_name", "_time", "_xid"] {
        lines.quoted(&format!("recovery_target{target}"), "");
    }
    if e.replication == Replication::Promise {
        // Before 14 only a restart changes restore_command.
        lines.quoted("restore_command", "");
        lines.bare("recovery_min_apply_delay", 0);
    }
}
