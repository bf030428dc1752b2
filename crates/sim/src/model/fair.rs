//! The way out: from any state, with everything healed and every move taken in turn, the group becomes
//! whole.

use super::moves::{Move, Next, Which};
use super::table::FastMap;
use super::world::{Misc, State, World};
use super::{Bounds, fingerprint};

/// Moves after which a fair run counts as one without end.
///
/// Measured: the longest that ends takes less than a third of it.
const LIMIT: usize = 3000;

/// States that are known to have a way out.
#[derive(Debug, Default)]
pub(super) struct WaysOut {
    known: FastMap<u128, ()>,
    pub(super) longest: usize,
}

/// Healing first, then what happens by itself, limits last.
fn rank(what: Move) -> u8 {
    let heals = matches!(
        what,
        Move::StartHost(_) | Move::Thaw(_) | Move::Mend(_) | Move::Join(_) | Move::StartKeeper(_)
    );
    let limit = matches!(
        what,
        Move::Closed(_)
            | Move::Silent(_)
            | Move::PhaseOld
            | Move::DownOld(_)
            | Move::UnseenOld(_)
            | Move::KeeperWaits(_)
            | Move::LeaseEnds(_)
    );
    if heals { 0 } else { 1 + u8::from(limit) }
}

impl World {
    /// Whether a fair run from a state ends in a whole group; its last state, if it does not.
    pub(super) fn has_way_out(&mut self, state: &State, ways: &mut WaysOut) -> Result<(), State> {
        let quiet = self.without_budgets(state);
        match self.fair_run(quiet, Some(ways)) {
            Ok(_) => Ok(()),
            Err(last) => Err(last),
        }
    }

    fn without_budgets(&mut self, state: &State) -> State {
        self.with_budgets(*state, &Bounds::quiet(self.nodes))
    }

    /// Runs until nothing happens any more.
    pub(super) fn fair_run(
        &mut self,
        state: State,
        mut ways: Option<&mut WaysOut>,
    ) -> Result<State, State> {
        let mut state = state;
        let mut way = Vec::new();
        let mut last: FastMap<Move, usize> = FastMap::default();
        let mut out: Vec<Next> = Vec::new();
        for moves in 1..LIMIT {
            if let Some(ways) = ways.as_deref_mut() {
                let print = fingerprint(&self.without_ledger(&state));
                if ways.known.contains_key(&print) {
                    ways.known.extend(way.into_iter().map(|p| (p, ())));
                    return Ok(state);
                }
                way.push(print);
            }
            self.successors(&state, Which::Fair, &mut out);
            let next = out
                .iter()
                .filter(|n| n.broken.is_none())
                .min_by_key(|n| (rank(n.what), last.get(&n.what).copied(), n.what));
            let Some(next) = next else {
                if !self.is_whole(&state) {
                    return Err(state);
                }
                if let Some(ways) = ways {
                    ways.longest = ways.longest.max(moves);
                    ways.known.extend(way.into_iter().map(|p| (p, ())));
                }
                return Ok(state);
            };
            last.insert(next.what, moves);
            state = next.state;
        }
        Err(state)
    }

    /// What was acknowledged does not matter for where a group gets to.
    fn without_ledger(&mut self, state: &State) -> State {
        let mut next = *state;
        next.misc = self.miscs.put(Misc {
            ledger: None,
            ..self.misc(state).clone()
        });
        next
    }
}
