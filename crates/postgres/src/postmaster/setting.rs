//! Settings of a stopped server.

use std::path::Path;
use std::time::Duration;

use crate::command::Invocation;
use crate::locate::Installation;

/// How long `postgres -C` may take (chosen; it takes 15 ms).
const ASK: Duration = Duration::from_secs(10);

/// Why a setting is not known.
#[derive(Debug, thiserror::Error)]
pub enum SettingError {
    /// `postgres -C` did not run to its end.
    #[error("cannot ask `postgres -C {name}`")]
    Run {
        /// The setting.
        name: String,
        /// Why.
        #[source]
        source: crate::command::CommandError,
    },
    /// The configuration has an error, or there is no such setting.
    #[error("`postgres -C {name}` fails: {reason}")]
    Refused {
        /// The setting.
        name: String,
        /// What it said.
        reason: String,
    },
}

/// The value of a setting that a stopped server would start with (`postgres -C`). 15 ms.
///
/// # Errors
/// [`SettingError`].
pub async fn effective_setting(
    postgres: &Installation,
    pgdata: &Path,
    name: &str,
) -> Result<String, SettingError> {
    let name = name.to_owned();
    let run = Invocation::new(&postgres.program("postgres"))
        .arg("-D")
        .arg(pgdata)
        .args(["-C", &name])
        .deadline(ASK)
        .run()
        .await;
    match run {
        Ok(done) if done.status.success() => Ok(done
            .stdout
            .strip_suffix('\n')
            .unwrap_or(&done.stdout)
            .to_owned()),
        Ok(done) => Err(SettingError::Refused {
            name,
            reason: done.reason(),
        }),
        Err(source) => Err(SettingError::Run { name, source }),
    }
}
