//! Time as an argument.

use core::time::Duration;

use serde::{Deserialize, Serialize};

/// Milliseconds on a clock of this process that also counts while the host sleeps
/// (`CLOCK_BOOTTIME`). Never sent to, or compared with that of, another process.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Time(pub u64);

impl Time {
    /// How long ago `earlier` was; zero when it is later than this.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// This time plus `wait`, at most the end of time.
    #[must_use]
    pub fn plus(self, wait: Duration) -> Self {
        let ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(ms))
    }
}
