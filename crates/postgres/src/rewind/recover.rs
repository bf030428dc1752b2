//! Bringing a copy to a clean stop with all of its WAL replayed, as `pg_rewind` needs it.
//!
//! `pg_rewind` compares with what a standby has *replayed*, while what it has *received* decides
//! whether it can follow: with WAL of a dead branch in `pg_wal` it says "no rewind required", and
//! the standby then replays that WAL, and never follows.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{RewindError, SIGNALS};
use crate::command::{Invocation, Verdict};
use crate::control::{self, ClusterState, Control, ControlData};
use crate::locate::Installation;
use crate::postmaster::{self, Exit, Postmaster, StartOptions, StopMode};
use crate::wal::{self, LastRecord};
use crate::{durable, history};

/// A standby that replays without progress for this long is given up (chosen).
const STALL: Duration = Duration::from_secs(30);

/// Recovers a copy whose Postgres is down.
///
/// # Errors
/// The inner one: what stands in the way.
pub(super) async fn recover(
    postgres: &Installation,
    pgdata: &Path,
) -> Result<Result<(), String>, RewindError> {
    let control = match control::read(postgres, pgdata).await {
        Ok(Control::Present(control)) => control,
        Ok(Control::Missing) => return Ok(Err("there is no pg_control".to_owned())),
        Ok(Control::Corrupt { reason }) => return Ok(Err(reason)),
        Err(error) => return Ok(Err(error.to_string())),
    };
    match control.state {
        ClusterState::ShutDown => Ok(Ok(())),
        ClusterState::InArchiveRecovery | ClusterState::ShutDownInRecovery => Ok(Standby {
            postgres,
            pgdata,
            control: &control,
        }
        .recover()
        .await),
        ClusterState::StartingUp
        | ClusterState::ShuttingDown
        | ClusterState::InCrashRecovery
        | ClusterState::InProduction => recover_primary(postgres, pgdata).await,
    }
}

/// Crash recovery in single-user mode, in which nobody can connect. pg_rewind would do it too,
/// but not with a signal file, and without fsync.
async fn recover_primary(
    postgres: &Installation,
    pgdata: &Path,
) -> Result<Result<(), String>, RewindError> {
    for signal in SIGNALS {
        durable::remove_file(&pgdata.join(signal))?;
    }
    let recovery = Invocation::new(&postgres.program("postgres"))
        .args(["--single", "-D"])
        .arg(pgdata)
        .args(["-c", "archive_mode=off", "-c", "synchronous_standby_names="])
        // The checkpoint at its end would remove the WAL back to the fork, without which
        // pg_rewind says "could not find previous WAL record". In MB: as much as there is.
        .args(["-c", "wal_keep_size=2147483647", "template1"])
        .on_line(|line| {
            // No limit: recovery takes as long as there is WAL, and must not be cut short.
            tracing::info!("crash recovery: {line}");
            Verdict::Ordinary
        })
        .run()
        .await;
    match recovery {
        Ok(done) if done.status.success() => Ok(Ok(())),
        Ok(done) => Ok(Err(done.reason())),
        Err(error) => Err(RewindError::Run(error)),
    }
}

/// A standby replays what it has as a standby, where nobody can connect: single-user mode would
/// write WAL of its own, and make a diverged copy of one that was not.
struct Standby<'a> {
    postgres: &'a Installation,
    pgdata: &'a Path,
    control: &'a ControlData,
}

impl Standby<'_> {
    async fn recover(&self) -> Result<(), String> {
        let text = |e: &dyn std::error::Error| e.to_string();
        let last = wal::last_record(self.pgdata, self.control)
            .await
            .map_err(|e| text(&e))?;
        let replayed = self
            .control
            .min_recovery_end
            .is_some_and(|p| p.lsn >= last.end.lsn);
        if self.control.state.is_clean() && replayed {
            return Ok(());
        }
        history::remove_empty_history_files(self.pgdata, self.control.timeline)
            .map_err(|e| text(&e))?;
        durable::write_file(&self.pgdata.join("standby.signal"), b"", 0o600)
            .map_err(|e| text(&e))?;
        let sockets = std::env::temp_dir().join(format!("pgaf-{:08x}", rand::random::<u32>()));
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&sockets)
            .map_err(|e| text(&e))?;
        let result = self.replay(last, &sockets).await;
        let _ = fs::remove_dir_all(&sockets);
        result
    }

    async fn replay(&self, last: LastRecord, sockets: &Path) -> Result<(), String> {
        // With nothing after the checkpoint, there is no record to stop at.
        let target = (last.start > self.control.checkpoint).then_some(last);
        let options = options(target, sockets.to_owned());
        let server = Postmaster::start(self.postgres, self.pgdata, &options)
            .await
            .map_err(|e| e.to_string())?;
        let mut result = match server.wait_ready(STALL, |_| {}).await {
            Ok(_) => Ok(()),
            // It may reach its target before anybody sees it ready.
            Err(postmaster::ReadyError::Exited {
                exit: Exit::Code(0 | 1),
                ..
            }) if target.is_some() => Ok(()),
            Err(error) => Err(error.to_string()),
        };
        if target.is_some() && result.is_ok() && !server.exited_while_moving(STALL).await {
            result = Err("it does not come to the end of its WAL".to_owned());
        }
        if server.stop_and_wait(StopMode::Fast, STALL).await.is_none() {
            result = Err("it does not stop".to_owned());
        }
        postmaster::end_cluster(self.pgdata, STALL)
            .await
            .map_err(|e| e.to_string())?;
        result?;
        match control::read(self.postgres, self.pgdata).await {
            Ok(Control::Present(after)) if after.state == ClusterState::ShutDownInRecovery => {
                Ok(())
            }
            Ok(other) => Err(format!("it does not stop cleanly: {other:?}")),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// The settings of a standby that replays up to a record, inclusive, and ends.
fn options(target: Option<LastRecord>, sockets: PathBuf) -> StartOptions {
    let target_lsn = target
        .map(|record| record.start.to_string())
        .unwrap_or_default();
    let settings = [
        ("primary_conninfo", ""),
        ("restore_command", ""),
        ("archive_mode", "off"),
        ("hot_standby", "off"),
        ("recovery_min_apply_delay", "0"),
        ("unix_socket_permissions", "0700"),
        ("recovery_target", ""),
        ("recovery_target_name", ""),
        ("recovery_target_time", ""),
        ("recovery_target_xid", ""),
        ("recovery_target_timeline", "latest"),
        ("recovery_target_inclusive", "on"),
        ("recovery_target_action", "shutdown"),
        ("recovery_target_lsn", &target_lsn),
    ];
    StartOptions {
        // Names the socket only: there is no address to listen on.
        port: 5432,
        listen_addresses: String::new(),
        socket_directory: Some(sockets),
        settings: settings
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec(),
    }
}
