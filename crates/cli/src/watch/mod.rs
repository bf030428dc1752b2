//! `watch`: a live screen of a formation's nodes, what its groups wait for, and its events.
//!
//! Changes of state are pushed by the monitor and shown at once; positions and ages, which nobody
//! announces, are fetched every [`feed::REFRESH`]. Drawing ([`view`]) and keys ([`keys`]) are
//! functions; only this module touches the terminal, and it gives it back on every way out.

mod feed;
mod keys;
mod model;
mod view;

use std::io::IsTerminal;
use std::time::Duration;

use crossterm::event::{Event, EventStream, KeyEventKind};
use futures::StreamExt;
use jiff::Zoned;
use ratatui::DefaultTerminal;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch::Receiver;

use crate::commands::{Context, block_on};
use crate::error::{ExitCode, Failure};
use crate::options::parse::Parsed;
use crate::options::values;
use crate::target::Target;
use keys::Action;
use model::Snapshot;
use view::Scroll;

/// How often the clock and the ages of reports move on. Chosen: ages are shown in seconds.
const TICK: Duration = Duration::from_secs(1);

/// Shows the dashboard until a key or a signal ends it.
///
/// # Errors
/// Exit code 1 without a terminal or with wrong arguments, 6 when the monitor cannot be reached at
/// the start; later it is waited for, and said so on the screen.
pub(crate) fn run(_context: &Context<'_>, parsed: &Parsed) -> Result<(), Failure> {
    let group = parsed.value("group").map(values::group).transpose()?;
    let target = Target::resolve(parsed)?;
    if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        return Err(Failure::bad_args("the dashboard needs a terminal")
            .hint("`pg_autoctl show state` and `pg_autoctl show events` print the same once"));
    }
    block_on(async {
        let mut signals = Signals::new()?;
        // What goes wrong before the screen is taken is said as any command says it.
        let (snapshots, feeding) = feed::start(target, group).await?;
        let mut terminal =
            ratatui::try_init().map_err(|error| broken("cannot take the terminal", &error))?;
        let shown = show(&mut terminal, snapshots, &mut signals).await;
        ratatui::restore();
        feeding.abort();
        shown
    })
}

async fn show(
    terminal: &mut DefaultTerminal,
    mut snapshots: Receiver<Snapshot>,
    signals: &mut Signals,
) -> Result<(), Failure> {
    let mut keys = EventStream::new();
    let mut ticks = tokio::time::interval(TICK);
    let mut scroll = Scroll::default();
    loop {
        let snapshot = snapshots.borrow_and_update().clone();
        let clock = Zoned::now().strftime("%H:%M:%S").to_string();
        terminal
            .draw(|frame| view::draw(frame, &snapshot, &mut scroll, &clock))
            .map_err(|error| broken("cannot draw on the terminal", &error))?;
        tokio::select! {
            event = keys.next() => match event {
                Some(Ok(Event::Key(key))) if key.kind == KeyEventKind::Press => {
                    match keys::action(key) {
                        Some(Action::Quit) => return Ok(()),
                        Some(action) => scroll.apply(action),
                        None => {}
                    }
                }
                // A resize, the mouse: drawing again is the answer.
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(broken("cannot read keys", &error)),
                None => return Ok(()),
            },
            changed = snapshots.changed() => {
                if changed.is_err() {
                    return Err(Failure::error(ExitCode::Internal, "the dashboard's feed ended"));
                }
            }
            _ = ticks.tick() => {}
            () = signals.any() => return Ok(()),
        }
    }
}

/// The signals that end the dashboard, with a clean terminal.
struct Signals([Signal; 4]);

impl Signals {
    fn new() -> Result<Self, Failure> {
        let on = |kind| signal(kind).map_err(|error| broken("cannot wait for signals", &error));
        Ok(Self([
            on(SignalKind::interrupt())?,
            on(SignalKind::terminate())?,
            on(SignalKind::hangup())?,
            on(SignalKind::quit())?,
        ]))
    }

    async fn any(&mut self) {
        let [interrupt, terminate, hangup, quit] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
            _ = quit.recv() => {}
        }
    }
}

fn broken(what: &str, error: &std::io::Error) -> Failure {
    Failure::fatal(ExitCode::Internal, what).because(error)
}
