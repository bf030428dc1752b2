//! `cargo xtask demo`: from a bare checkout to a failover that loses nothing, in one command.
//!
//! Everything runs on free ports of the loopback, in one temporary folder, as an unprivileged user; what was
//! started is ended by process id, also after Ctrl-C and after a failure.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::cluster::Cluster;
use crate::console::{self, human};
use crate::host::{Host, Programs};
use crate::temp::Folder;
use crate::writer::{self, Writers};
use crate::{interrupt, machine, scenario, wait, walk};

/// What the demo needs beside Postgres: (program, Debian package).
const PROGRAMS: &[(&str, &str)] = &[("setpriv", "util-linux")];

/// Rows of the table that is loaded at the beginning.
const ACCOUNTS: u32 = 100_000;

/// How long a failover may take before the demo gives up; the goal is a small part of it.
const FAILOVER: Duration = Duration::from_secs(60);

/// How long a node that was killed may take to be a healthy standby again.
const HEALED: Duration = Duration::from_secs(90);

/// Runs the demo.
///
/// # Errors
/// At the first thing that does not work; everything that was started is gone by then.
pub(crate) fn run(keep: bool, release: bool, other: Option<&Path>, citus: bool) -> Result<()> {
    let start = Instant::now();
    if citus {
        if walk::find(None)?.is_some() {
            return citus_formation(release, other);
        }
        console::skipped(
            "the demo of Citus",
            &format!(
                "the extension is not installed for the Postgres of this machine; {} says how. \
                 This is the demo of plain Postgres",
                walk::INSTALLATION
            ),
        );
    }
    console::heading("1/7  What is needed");
    machine::install_missing(PROGRAMS)?;
    console::note(if release {
        "a first optimised build takes several minutes"
    } else {
        "a first build takes about four minutes on two cores; later ones, seconds"
    });
    let built = Instant::now();
    let (programs, bin) = scenario::programs(other, release)?;
    console::good(&format!("pg_autoctl is built ({})", human(built.elapsed())));

    let folder = Folder::new("demo")?;
    let cluster = steps(folder.path(), &programs).inspect_err(|_| {
        if !interrupt::asked() {
            scenario::show_logs(folder.path());
        }
    })?;
    if keep {
        leave_running(cluster, &folder.keep(), &bin.keep())?;
    } else {
        drop(cluster);
        console::note("everything is stopped; `cargo xtask demo --keep` leaves it running");
    }
    console::heading(&format!("Done in {}", human(start.elapsed())));
    Ok(())
}

/// Two coordinators and six workers: data, a worker that breaks, a coordinator that breaks, all healed.
fn citus_formation(release: bool, other: Option<&Path>) -> Result<()> {
    let start = Instant::now();
    machine::install_missing(PROGRAMS)?;
    let (programs, _bin) = scenario::programs(other, release)?;
    let folder = Folder::new("demo")?;
    let mut formation = walk::Formation::on_loopback(folder.path(), &programs);
    walk::demo(&mut formation).inspect_err(|_| {
        if !interrupt::asked() {
            scenario::show_logs(&folder.path().join("round1"));
        }
    })?;
    drop(formation);
    console::heading(&format!("Done in {}", human(start.elapsed())));
    Ok(())
}

fn steps(folder: &Path, programs: &Arc<Programs>) -> Result<Cluster> {
    console::heading("2/7  A monitor and two Postgres nodes");
    console::note(&format!(
        "in {}, as user {}",
        folder.display(),
        programs.account.name
    ));
    let start = Instant::now();
    let mut progress = |line: &str| console::note(line);
    let mut cluster = Cluster::start(folder, 2, false, programs, &mut progress)?;
    console::good(&format!(
        "from nothing to primary and secondary: {}",
        human(start.elapsed())
    ));
    table(&cluster);

    console::heading("3/7  Data, and a client that writes all the time");
    let load = format!(
        "create table accounts as select id, 100 as balance from generate_series(1, {ACCOUNTS}) id; \
         alter table accounts add primary key (id)"
    );
    cluster.query(cluster.primary()?, &load)?;
    let mut writers = Writers::start(&cluster)?;
    wait::pass(Duration::from_secs(2))?;
    console::good(&format!(
        "{ACCOUNTS} rows loaded, {} written since",
        writers.ledger().len()
    ));

    console::heading("4/7  A planned switchover");
    switchover(&cluster, &writers)?;

    console::heading("5/7  The primary's host dies");
    let lost = kill_primary(&mut cluster, &writers)?;

    console::heading("6/7  The host comes back");
    let start = Instant::now();
    let host = &mut cluster.nodes[lost];
    host.start(&["run"])?;
    console::note(&format!("{} is started again", host.name));
    wait::until("both nodes healthy", HEALED, || cluster.is_settled())?;
    console::good(&format!("healed by itself in {}", human(start.elapsed())));
    table(&cluster);

    console::heading("7/7  Is every acknowledged row there?");
    verify(&cluster, &mut writers)?;
    Ok(cluster)
}

fn switchover(cluster: &Cluster, writers: &Writers) -> Result<()> {
    let before = cluster.primary()?;
    let moved = Instant::now();
    let said = cluster
        .monitor
        .run(&["perform", "switchover"])?
        .success("perform switchover")?;
    console::quote(&said);
    outage("switchover", writers, moved)?;
    wait::until("both nodes healthy", HEALED, || cluster.is_settled())?;
    ensure!(cluster.primary()? != before, "the primary did not move");
    table(cluster);
    Ok(())
}

/// Kills every process of the primary's host, and waits until the other one takes writes.
fn kill_primary(cluster: &mut Cluster, writers: &Writers) -> Result<usize> {
    let lost = cluster.primary()?;
    let host = &mut cluster.nodes[lost];
    let (name, count) = (host.name.clone(), host.pids().len());
    let killed = Instant::now();
    host.kill()?;
    console::note(&format!(
        "SIGKILL to all {count} processes of {name}: its keeper and its Postgres"
    ));
    outage("failover", writers, killed)?;
    wait::until("a new primary", FAILOVER, || {
        Ok(cluster.primary().is_ok_and(|now| now != lost))
    })?;
    // A little history on the new primary, for the old one to catch up with.
    wait::pass(Duration::from_secs(1))?;
    table(cluster);
    Ok(lost)
}

fn outage(what: &str, writers: &Writers, fault: Instant) -> Result<()> {
    wait::until("writes that are acknowledged again", FAILOVER, || {
        let ledger = writers.ledger();
        Ok(ledger.moved_since(fault))
    })?;
    let outage = writers.ledger().outage(fault, Instant::now());
    console::good(&format!(
        "{what}: no write was acknowledged for {}",
        human(outage)
    ));
    Ok(())
}

fn verify(cluster: &Cluster, writers: &mut Writers) -> Result<()> {
    writers.stop();
    wait::until("a standby that has replayed all", HEALED, || {
        cluster.is_settled()
    })?;
    let ledger = writers.ledger();
    let mut seen = BTreeSet::new();
    for (index, node) in cluster.nodes.iter().enumerate() {
        let rows = writer::rows(cluster, index)?;
        let missing = ledger.missing_from(&rows);
        ensure!(
            missing == 0,
            "{}: {missing} of {} acknowledged rows are missing",
            node.name,
            ledger.len()
        );
        let accounts = cluster.query(index, "select count(*) from accounts")?;
        ensure!(
            accounts == [[ACCOUNTS.to_string()]],
            "{}: accounts are missing",
            node.name
        );
        console::good(&format!(
            "{}: all {} acknowledged rows, all {ACCOUNTS} accounts",
            node.name,
            ledger.len()
        ));
        seen.insert(rows.len());
    }
    ensure!(seen.len() == 1, "the nodes have different rows");
    ensure!(ledger.two_writers() == 0, "two nodes took writes at once");
    Ok(())
}

fn table(cluster: &Cluster) {
    console::quote(&cluster.table());
}

/// Says how to look around, writes the scripts for that, and lets go of the processes.
fn leave_running(cluster: Cluster, folder: &Path, bin: &Path) -> Result<()> {
    let mut stop = "#!/bin/sh\n# Stops the demo and removes its files.\n".to_owned();
    for host in cluster
        .nodes
        .iter()
        .chain(std::iter::once(&cluster.monitor))
    {
        let script = folder.join(format!("on-{}", host.name));
        write_script(&script, &format!("#!/bin/sh\n{} \"$@\"\n", in_words(host)?))?;
        stop.push_str(&format!("{} stop\n", script.display()));
    }
    // The daemons end when their children have: the folder goes after the last one.
    stop.push_str(&format!(
        "i=0\nwhile [ $i -lt 100 ] && ls {0}/*/pgdata/postmaster.pid >/dev/null 2>&1; do sleep 0.1; i=$((i+1)); done\n\
         sleep 1\nrm -rf {0} {1}\n",
        folder.display(),
        bin.display()
    ));
    write_script(&folder.join("stop"), &stop)?;

    console::heading("It is running; look around");
    let ports: Vec<_> = cluster
        .nodes
        .iter()
        .map(|n| format!("127.0.0.1:{}", n.port))
        .collect();
    let user = &cluster.target(0).user;
    let uri = format!(
        "postgres://{user}@{}/postgres?target_session_attrs=read-write",
        ports.join(",")
    );
    console::note("a client that finds the primary by itself:");
    console::note(&format!("  psql '{uri}'"));
    console::note("the monitor's own tables:");
    console::note(&format!(
        "  psql '{}' -c 'select * from pgautofailover.node'",
        cluster.uri()
    ));
    console::note("any command of pg_autoctl, there is one script per host:");
    for words in [
        "on-monitor show state",
        "on-monitor perform failover",
        "on-node1 status",
    ] {
        console::note(&format!("  {}/{words}", folder.display()));
    }
    console::note("stop it, and remove its files:");
    console::note(&format!("  {}/stop", folder.display()));
    // Their processes are the user's from here on.
    std::mem::forget(cluster);
    Ok(())
}

/// `pg_autoctl` on a host, as words for a shell.
fn in_words(host: &Host) -> Result<String> {
    let words = crate::command::shown(&host.autoctl(&[])?);
    let environment: Vec<_> = host
        .environment()
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    Ok(format!("exec env {} {words}", environment.join(" ")))
}

fn write_script(path: &Path, text: &str) -> Result<()> {
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::write(path, text)
        .and_then(|()| std::fs::set_permissions(path, executable))
        .with_context(|| format!("cannot write `{}`", path.display()))
}
