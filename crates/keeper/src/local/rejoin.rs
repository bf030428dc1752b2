//! The rungs of the way back: `pg_rewind`, base backup, exchange of the data directory.

use std::path::PathBuf;

use pgaf_fsm::node::{Outcome, RewindEnd};
use pgaf_postgres::basebackup::{self, BackupProgress, BaseBackup};
use pgaf_postgres::client::{self, Client, Options};
use pgaf_postgres::rewind::{self, Rewind, Rewound};
use pgaf_postgres::swap::Staging;
use pgaf_protocol::{CopyId, Peer, Progress};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::Local;
use super::act::failed;

/// Files of the node and not of its data: they stay as they are when the data is replaced.
const KEEP: [&str; 4] = ["server.crt", "server.key", "root.crt", "root.crl"];
/// Between two looks at the source's checkpoint.
const CHECKPOINT_PAUSE: Duration = Duration::from_millis(100);
/// For a question to another node.
const ASK: Duration = Duration::from_secs(5);

/// Tells the report how far something is.
fn note(
    shared: &Arc<Mutex<Option<Progress>>>,
    what: String,
) -> impl FnMut(BackupProgress) + Send + 'static {
    let shared = Arc::clone(shared);
    move |progress| {
        *shared.lock().unwrap_or_else(PoisonError::into_inner) = Some(Progress {
            what: what.clone(),
            done_bytes: progress.done,
            total_bytes: Some(progress.total),
        });
    }
}

impl Local {
    /// The folder that marks a rewind under way, beside the journal.
    pub(super) fn rewind_marker(&self) -> PathBuf {
        self.config().journal.with_file_name("rewind")
    }

    pub(super) async fn rewind(&self, upstream: &Peer, copy: CopyId) -> Outcome {
        let pgdata = self.pgdata();
        let marker = self.rewind_marker();
        let source = self.source(upstream);
        // pg_rewind goes by the source's last checkpoint: before the first one on a new timeline
        // it finds both on the same one, and nothing to do.
        match self.checkpointed(upstream).await {
            Ok(true) => {}
            Ok(false) => {
                tokio::time::sleep(CHECKPOINT_PAUSE).await;
                return Outcome::NotYet {
                    why: format!("{} has not checkpointed its timeline yet", upstream.name),
                };
            }
            Err(why) => return Outcome::Failed { why },
        }
        let what = format!("pg_rewind from node {}", upstream.node);
        tracing::info!(upstream = %upstream.name, "rewinds the copy");
        let request = Rewind {
            postgres: &self.installation,
            pgdata: &pgdata,
            source: &source,
            node: self.journal().node,
            copy,
            marker: &marker,
            keep: &KEEP,
        };
        let rewound = rewind::rewind(request, note(&self.progress, what)).await;
        self.forget();
        match rewound {
            Ok(end) => {
                let end = match end {
                    Rewound::NotNeeded => RewindEnd::NotNeeded,
                    Rewound::Done => RewindEnd::Done,
                    Rewound::Refused { reason } => {
                        tracing::warn!(reason, "pg_rewind is refused");
                        RewindEnd::Refused { why: reason }
                    }
                    Rewound::Broken { reason } => {
                        tracing::warn!(reason, "pg_rewind has failed: the copy must be replaced");
                        RewindEnd::Broken { why: reason }
                    }
                };
                Outcome::Rewound { end }
            }
            Err(error) => failed(&error),
        }
    }

    pub(super) async fn base_backup(&self, upstream: &Peer, copy: CopyId) -> Outcome {
        let config = self.config();
        let node = self.journal().node;
        let wanted = config.backup_directory.clone().unwrap_or_else(|| {
            config
                .pgdata
                .parent()
                .map_or_else(PathBuf::new, PathBuf::from)
                .join("backup")
                .join(format!("node_{node}"))
        });
        // The last old copy may still be on its way out of there.
        let deleting = self.deleting.borrow_mut().take();
        if let Some(deleting) = deleting {
            let _joined = deleting.await;
        }
        let staging = match Staging::prepare(&config.pgdata, &wanted) {
            Ok(staging) => staging,
            Err(error) => return failed(&error),
        };
        let source = self.source(upstream);
        let tablespaces = match self.tablespaces(upstream).await {
            Ok(tablespaces) => tablespaces,
            Err(why) => return Outcome::Failed { why },
        };
        let what = format!("base backup from node {}", upstream.node);
        tracing::info!(upstream = %upstream.name, "takes a base backup");
        let request = BaseBackup {
            postgres: &self.installation,
            source: &source,
            node,
            copy,
            max_rate: config.maximum_backup_rate.as_deref(),
            tablespaces: &tablespaces,
            stall: basebackup::STALL,
        };
        let taken = basebackup::base_backup(&request, &staging, note(&self.progress, what)).await;
        if let Err(error) = taken {
            return failed(&error);
        }
        let kept = if self.rewind_interrupted() {
            rewind::restore_kept(&self.rewind_marker(), staging.path())
        } else {
            staging.carry_over(&KEEP)
        };
        if let Err(error) = kept {
            return failed(&error);
        }
        *self.staging.borrow_mut() = Some(staging);
        Outcome::Done
    }

    fn rewind_interrupted(&self) -> bool {
        rewind::interrupted(&self.rewind_marker())
    }

    async fn reach(&self, upstream: &Peer) -> Result<Client, String> {
        let options = Options {
            connect_timeout: ASK,
            application_name: "pgaf keeper".into(),
        };
        client::connect(&self.source(upstream), &options)
            .await
            .map_err(|e| crate::words(&e))
    }

    /// Whether the source's last checkpoint is on the timeline that it writes.
    async fn checkpointed(&self, upstream: &Peer) -> Result<bool, String> {
        let row = self
            .reach(upstream)
            .await?
            .query_one(
                "SELECT NOT pg_catalog.pg_is_in_recovery() AND (SELECT timeline_id \
                 FROM pg_catalog.pg_control_checkpoint()) = ('x' || substr(\
                 pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8))::bit(32)::int4",
                &[],
                ASK,
            )
            .await
            .map_err(|e| crate::words(&e))?;
        row.try_get(0).map_err(|e| crate::words(&e))
    }

    async fn tablespaces(&self, upstream: &Peer) -> Result<Vec<PathBuf>, String> {
        let client = self.reach(upstream).await?;
        let rows = client
            .query(
                "SELECT pg_catalog.pg_tablespace_location(oid) AS location \
                 FROM pg_catalog.pg_tablespace \
                 WHERE spcname NOT IN ('pg_default', 'pg_global')",
                &[],
                ASK,
            )
            .await
            .map_err(|e| crate::words(&e))?;
        rows.iter()
            .map(|row| {
                row.try_get::<_, String>(0)
                    .map(PathBuf::from)
                    .map_err(|e| crate::words(&e))
            })
            .collect()
    }

    pub(super) async fn swap_in(&self) -> Outcome {
        let Some(staging) = self.staging.borrow_mut().take() else {
            // The exchange may have been made already; the look says which copy is there.
            self.forget();
            return Outcome::Done;
        };
        let swapped = tokio::task::spawn_blocking(move || staging.swap_in()).await;
        let result = match swapped {
            Ok(Ok(old)) => {
                let deleting = tokio::task::spawn_blocking(move || {
                    if let Err(error) = old.delete() {
                        tracing::warn!(error = %crate::words(&error), "cannot delete the old copy");
                    }
                });
                *self.deleting.borrow_mut() = Some(deleting);
                let marker = self.rewind_marker();
                if rewind::interrupted(&marker) {
                    rewind::forget(&marker).map_or_else(|e| failed(&e), |()| Outcome::Done)
                } else {
                    Outcome::Done
                }
            }
            Ok(Err(error)) => failed(&error),
            Err(error) => failed(&error),
        };
        self.forget();
        result
    }
}
