//! The ladder back, and asking the others.

use super::*;

impl World {
    /// The running primary's copy, if it can be had from here.
    pub(super) fn source(&self, host: usize, upstream: &str) -> Option<usize> {
        let other = self.host_of(upstream)?;
        (self.reaches(Place::Node(host), other) == Some(true)).then_some(other)
    }

    pub(super) fn rewind(
        &mut self,
        host: usize,
        doing: &Doing,
        upstream: &str,
        copy: CopyId,
    ) -> Next {
        let refused = |why: &str| {
            Next::Over(Outcome::Rewound {
                end: RewindEnd::Refused { why: why.into() },
            })
        };
        let broken = |why: &str| {
            Next::Over(Outcome::Rewound {
                end: RewindEnd::Broken { why: why.into() },
            })
        };
        let pg = &self.hosts[host].pg;
        if pg.server.is_some() {
            return failed("Postgres runs");
        }
        let Some(mine) = pg.disk.clone() else {
            return refused("there is no copy");
        };
        let Some(other) = self.source(host, upstream) else {
            return if doing.phase < 2 {
                refused("the source does not answer")
            } else {
                broken("the source is gone")
            };
        };
        let Some(source) = self.hosts[other].pg.disk.clone() else {
            return refused("the source has no copy");
        };
        match doing.phase {
            0 => {
                if source.primary && source.control_timeline != source.path.timeline() {
                    return not_yet("the source has not checkpointed its timeline yet");
                }
                return Next::Again(self.rng.between(20, 80));
            }
            1 => {
                if no_rewind_required(&mine, &source) {
                    return Next::Over(Outcome::Rewound {
                        end: RewindEnd::NotNeeded,
                    });
                }
                self.hosts[host].pg.broken = Some("a rewind is under way".into());
                return Next::Again(self.rng.between(50, 600));
            }
            2.. => {}
        }
        let slots = BTreeSet::new();
        let mut path = source.path.clone();
        path.truncate(source.flushed);
        let disk = Disk {
            copy: Some(copy),
            primary: false,
            clean: false,
            flushed: path.end(),
            redo: path.end(),
            control_timeline: path.timeline(),
            path,
            slots,
            conf: ConfFile::default(),
            backup_label: false,
            ..source
        };
        self.hosts[host].pg.disk = Some(disk);
        self.hosts[host].pg.broken = None;
        Next::Over(Outcome::Rewound {
            end: RewindEnd::Done,
        })
    }

    pub(super) fn base_backup(
        &mut self,
        host: usize,
        doing: &Doing,
        upstream: &str,
        copy: CopyId,
    ) -> Next {
        let Some(other) = self.source(host, upstream) else {
            return failed("the source does not answer");
        };
        let boot = self.hosts[other].pg.server.as_ref().map_or(0, |s| s.boot);
        if doing.phase == 0 {
            self.set_note(host, boot);
            return Next::Again(self.rng.between(100, 1500));
        }
        if doing.note != boot {
            return failed("the source is gone");
        }
        let Some(source) = self.hosts[other].pg.disk.clone() else {
            return failed("the source has no copy");
        };
        let mut path = source.path.clone();
        path.truncate(source.flushed);
        self.hosts[host].pg.staged = Some(Disk {
            copy: Some(copy),
            primary: false,
            clean: false,
            flushed: path.end(),
            redo: path.end(),
            control_timeline: path.timeline(),
            path,
            slots: BTreeSet::new(),
            conf: ConfFile::default(),
            backup_label: true,
            ..source
        });
        Next::Over(Outcome::Done)
    }

    pub(super) fn swap_in(&mut self, host: usize, doing: &Doing, copy: CopyId) -> Next {
        if doing.phase == 0 {
            return Next::Again(self.rng.between(2, 30));
        }
        let pg = &mut self.hosts[host].pg;
        if pg.server.is_some() {
            return failed("Postgres runs");
        }
        match pg.staged.take() {
            Some(staged) if staged.copy == Some(copy) => {
                pg.disk = Some(staged);
                pg.broken = None;
                Next::Over(Outcome::Done)
            }
            // The exchange may have been made already; the look says which copy is there.
            Some(_) | None => Next::Over(Outcome::Done),
        }
    }

    pub(super) fn ask_peers(&mut self, host: usize, doing: &Doing) -> Next {
        let mine = self.hosts[host]
            .pg
            .disk
            .as_ref()
            .map_or(0, |d| d.control_timeline);
        let peers = self.hosts[host].journal.peers.clone();
        let mut newer = false;
        let mut silent = false;
        for peer in peers {
            let Some(other) = self.host_of(&peer.host) else {
                continue;
            };
            match self.reaches(Place::Node(host), other) {
                Some(true) => {
                    let theirs = self.hosts[other].pg.look(self.now);
                    newer |= theirs.is_some_and(|s| s.timeline.0 > mine);
                }
                Some(false) => {}
                None => silent = true,
            }
        }
        if doing.phase == 0 {
            return Next::Again(if silent { 1000 } else { 20 });
        }
        Next::Over(Outcome::Peers { newer })
    }
}

/// Whether `pg_rewind` says "no rewind required": equal numbers look like one branch to it (tried), or the
/// target's end is on the source's way.
pub(crate) fn no_rewind_required(mine: &Disk, source: &Disk) -> bool {
    let number = source.path.timeline();
    let history = source.history(number);
    mine.path.timeline() == number || history.is_some_and(|h| h.fits(mine.position()))
}
