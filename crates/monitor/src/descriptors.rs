//! File descriptors: each session and each kept probe needs one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The part of all descriptors that kept probes may hold: a monitor of many nodes must not lock out
/// their keepers by looking at their Postgres. Chosen.
const PROBES_PART: u64 = 4;

/// Takes what the system allows: login shells and systemd start programs with 1024 of, mostly, half a
/// million. Answers how many kept probes there may be.
pub(crate) fn take_all() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
    probes(getrlimit(Resource::Nofile).current)
}

fn probes(descriptors: Option<u64>) -> usize {
    descriptors.map_or(usize::MAX, |most| {
        usize::try_from(most / PROBES_PART).unwrap_or(usize::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_leave_three_quarters_of_the_descriptors_to_sessions() {
        assert_eq!(probes(Some(20_000)), 5000);
        assert_eq!(probes(None), usize::MAX);
        assert!(take_all() >= 1024 / 4);
    }
}
