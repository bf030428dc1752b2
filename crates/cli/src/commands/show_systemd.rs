//! `show systemd`: a unit file for this node.

use std::os::unix::fs::MetadataExt;

use nix::unistd::{Uid, User};

use super::Context;
use crate::error::{ExitCode, Failure};
use crate::options::parse::Parsed;
use crate::render::out;
use crate::target::Local;

/// Where the unit belongs. Source: the old program.
const UNIT: &str = "/etc/systemd/system/pgautofailover.service";

/// Prints a unit file, and how to install it.
pub(crate) fn run(_context: &Context<'_>, parsed: &Parsed) -> Result<(), Failure> {
    let local = Local::open(parsed)?;
    let pgdata = local.paths.pgdata.display().to_string();
    let owner = owner(&local)?;
    let program = std::env::current_exe().map_err(|error| {
        Failure::error(ExitCode::Internal, "cannot find the path of this program").because(&error)
    })?;
    let program = program.display();
    for line in [
        "HINT: to complete a systemd integration, run the following commands (as root):".to_owned(),
        format!("pg_autoctl -q show systemd --pgdata \"{pgdata}\" | tee {UNIT}"),
        "systemctl daemon-reload".to_owned(),
        "systemctl enable pgautofailover".to_owned(),
        "systemctl start pgautofailover".to_owned(),
    ] {
        tracing::info!("{line}");
    }
    out::stdout(&unit(&Unit {
        home: &owner.dir.display().to_string(),
        user: &owner.name,
        pgdata: &pgdata,
        program: &program.to_string(),
    }));
    Ok(())
}

/// What a unit depends on.
struct Unit<'a> {
    home: &'a str,
    user: &'a str,
    pgdata: &'a str,
    program: &'a str,
}

/// The unit file. `KillMode=process`: systemd must not end Postgres when only the keeper crashed.
fn unit(it: &Unit<'_>) -> String {
    let Unit {
        home,
        user,
        pgdata,
        program,
    } = it;
    format!(
        "[Unit]\n\
         Description = pg_auto_failover\n\
         \n\
         [Service]\n\
         WorkingDirectory = {home}\n\
         Environment = 'PGDATA={pgdata}'\n\
         User = {user}\n\
         ExecStart = {program} run\n\
         Restart = always\n\
         StartLimitBurst = 20\n\
         KillMode = process\n\
         ExecReload = {program} reload\n\
         \n\
         [Install]\n\
         WantedBy = multi-user.target\n"
    )
}

fn owner(local: &Local) -> Result<User, Failure> {
    let file = if local.paths.pgdata.exists() {
        &local.paths.pgdata
    } else {
        &local.paths.config
    };
    let failure = || {
        Failure::error(
            ExitCode::BadConfig,
            format!("cannot tell who owns {}", file.display()),
        )
    };
    let metadata = std::fs::metadata(file).map_err(|error| failure().because(&error))?;
    User::from_uid(Uid::from_raw(metadata.uid()))
        .map_err(|error| failure().because(&error))?
        .ok_or_else(failure)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_leaves_postgres_alone_when_the_keeper_crashes() {
        insta::assert_snapshot!(unit(&Unit {
            home: "/var/lib/postgresql",
            user: "postgres",
            pgdata: "/srv/pg",
            program: "/usr/bin/pg_autoctl",
        }));
    }
}
