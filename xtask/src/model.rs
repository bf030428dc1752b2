//! `cargo xtask model`: the shipped deciding half, every state within stated bounds.
//!
//! The states that were entered stand in a file, so that the frontier costs no memory; what is kept there
//! is 128 bits of each. The figures of long runs stand in `docs/verification.md`.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use pgaf_sim::model::{Bounds, Control, Explored, Fault, Grain, Log, Progress, RECORD, explore};

use crate::console::{self, human};
use crate::{interrupt, workspace};

/// Bytes of a logged state.
const BYTES: usize = RECORD * 4;
/// States that are read at once.
const CHUNK: u64 = 4096;
/// Between two lines about the progress.
const TELL: Duration = Duration::from_secs(30);

/// What is explored.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Model {
    /// Postgres nodes of the group, 2 or 3
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(2..=3))]
    pub(crate) nodes: u8,
    /// End after so many states
    #[arg(long, default_value_t = u64::MAX, hide_default_value = true)]
    pub(crate) states: u64,
    /// End after so many minutes
    #[arg(long)]
    pub(crate) minutes: Option<u64>,
    /// The highest term
    #[arg(long, default_value_t = 3)]
    pub(crate) terms: u64,
    /// Faults in one history: processes, hosts and the monitor killed, power lost, hosts frozen, links cut
    #[arg(long, default_value_t = 2)]
    pub(crate) faults: u8,
    /// Lost or repeated messages in one history
    #[arg(long, default_value_t = 1)]
    pub(crate) losses: u8,
    /// Switchovers in one history
    #[arg(long, default_value_t = 0)]
    pub(crate) switches: u8,
    /// Commits of clients in one history
    #[arg(long, default_value_t = 2)]
    pub(crate) writes: u8,
    /// Reports of one keeper on their way at once, 1 or 2 (goals: 2)
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=2))]
    pub(crate) reports: u8,
    /// What comes at once: nothing (fine), a node's own moves (coarse), messages as well (prompt)
    #[arg(long, default_value = "fine", value_parser = ["fine", "coarse", "prompt"])]
    pub(crate) grain: String,
    /// The only kind of fault that comes
    #[arg(long, value_name = "FAULT", value_parser = fault_names())]
    pub(crate) only: Vec<String>,
    /// Begin with nodes that have just been registered, instead of with a whole group
    #[arg(long)]
    pub(crate) from_nothing: bool,
    /// Look for a way out from every so many-th state; 0: from none
    #[arg(long, default_value_t = 1)]
    pub(crate) way_out_each: u64,
    /// Break this rule on purpose: the checker must notice
    #[arg(long, value_name = "NAME", value_parser = control_names())]
    pub(crate) control: Option<String>,
    /// Fail when not every state within the bounds was seen
    #[arg(long)]
    pub(crate) exhaust: bool,
}

fn control_names() -> clap::builder::PossibleValuesParser {
    let names = Control::ALL.iter().map(|c| c.word());
    names.collect::<Vec<_>>().into()
}

fn fault_names() -> clap::builder::PossibleValuesParser {
    let names = Fault::ALL.iter().map(|(_, name)| *name);
    names.collect::<Vec<_>>().into()
}

impl Model {
    /// The bounds live as long as the process.
    fn only(&self) -> &'static [Fault] {
        let wanted = |name: &str| self.only.iter().any(|o| o == name);
        let kinds = Fault::ALL.iter().filter(|(_, name)| wanted(name));
        kinds.map(|(fault, _)| *fault).collect::<Vec<_>>().leak()
    }

    fn bounds(&self) -> Bounds {
        Bounds {
            nodes: usize::from(self.nodes),
            terms: self.terms,
            faults: self.faults,
            losses: self.losses,
            switches: self.switches,
            writes: self.writes,
            reports_in_flight: usize::from(self.reports),
            grain: match self.grain.as_str() {
                "prompt" => Grain::Prompt,
                "coarse" => Grain::Coarse,
                _ => Grain::Fine,
            },
            only: self.only(),
            from_nothing: self.from_nothing,
            control: Control::ALL
                .iter()
                .copied()
                .find(|c| Some(c.word()) == self.control.as_deref()),
            most_states: self.states,
            way_out_each: self.way_out_each,
        }
    }
}

/// What `cargo xtask test --long` explores: a pair from its first registration on, one fault of any kind, a
/// write, a way out looked for from every state.
///
/// # Errors
/// When an invariant is broken, or not every state was seen.
pub(crate) fn long() -> Result<()> {
    run(&Model {
        nodes: 2,
        states: u64::MAX,
        minutes: None,
        terms: 3,
        faults: 1,
        losses: 0,
        switches: 0,
        writes: 1,
        reports: 1,
        grain: "prompt".to_owned(),
        only: Vec::new(),
        from_nothing: true,
        way_out_each: 1,
        control: None,
        exhaust: true,
    })
}

/// Explores, and shows what was found.
///
/// # Errors
/// When an invariant is broken, or, with a control, when none is.
pub(crate) fn run(model: &Model) -> Result<()> {
    let begun = Instant::now();
    let mut told = begun;
    let mut log = FileLog::new()?;
    let mut stopped = false;
    let mut go_on = |progress: &Progress| {
        stopped = interrupt::check().is_err()
            || model
                .minutes
                .is_some_and(|m| begun.elapsed() > Duration::from_secs(m * 60));
        if told.elapsed() > TELL {
            told = Instant::now();
            console::note(&format!(
                "{} states, {} expanded, depth {}, {}",
                progress.states,
                progress.expanded,
                progress.depth,
                human(begun.elapsed())
            ));
        }
        !stopped
    };
    let found = explore(&model.bounds(), &mut log, &mut go_on)?;
    tell(model, &found, begun.elapsed());
    match (&found.broken, &model.control) {
        (Some((what, history)), control) => {
            let path = save(model, what, history)?;
            console::note(&format!("the whole history: {}", path.display()));
            if control.is_some() {
                console::good(&format!("noticed: {what}"));
                return Ok(());
            }
            console::say(history);
            bail!("{what}")
        }
        (None, Some(control)) => bail!("nobody noticed that {control} is broken on purpose"),
        (None, None) if model.exhaust && !found.exhausted => {
            bail!("not every state within the bounds was seen")
        }
        (None, None) => {
            console::good("no invariant is broken");
            Ok(())
        }
    }
}

fn tell(model: &Model, found: &Explored, took: Duration) {
    console::note(&format!("{:?}", model.bounds()));
    let rate = u128::from(found.states) * 1000 / took.as_millis().max(1);
    console::note(&format!(
        "{} states, {} moves, {} beyond the highest term, depth {}, {} ({rate} states/s)",
        found.states,
        found.moves,
        found.beyond,
        found.by_depth.len() - 1,
        human(took),
    ));
    let sizes: Vec<String> = found.by_depth.iter().map(u64::to_string).collect();
    console::note(&format!("new at each depth: {}", sizes.join(" ")));
    console::note(&format!(
        "a way out was looked for from {} states; the longest took {} moves",
        found.ways_out.0, found.ways_out.1
    ));
    console::note(&format!("parts: {}", found.parts));
    console::note(&format!("memory at most: {} MiB", peak_mib()));
    if found.exhausted {
        console::good("every state within these bounds was seen");
    } else {
        console::note("not every state within these bounds was seen");
    }
    for kind in ["rule", "step", "journal", "wait", "phase", "event"] {
        console::note(&format!("{kind}: {}", found.seen.words(kind).join(" ")));
    }
    let missing = found.seen.missing();
    console::note(&format!("never happened: {}", missing.join(" ")));
}

/// The most memory that this process ever had, as the kernel says.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    let kib = line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}

fn save(model: &Model, what: &str, history: &str) -> Result<PathBuf> {
    let folder = workspace::target()?.join("traces");
    let control = model.control.as_deref().unwrap_or("found");
    let path = folder.join(format!("model-{}-{control}.trace", model.nodes));
    std::fs::create_dir_all(&folder)
        .and_then(|()| std::fs::write(&path, format!("{what}\n\n{history}")))
        .with_context(|| format!("cannot write `{}`", path.display()))?;
    Ok(path)
}

/// A log in a file that nobody else sees.
#[derive(Debug)]
struct FileLog {
    out: BufWriter<File>,
    file: File,
    written: u64,
    flushed: u64,
    chunk: Vec<u8>,
    chunk_at: u64,
    failed: Option<std::io::Error>,
}

impl FileLog {
    fn new() -> Result<Self> {
        let folder = workspace::target()?.join("traces");
        std::fs::create_dir_all(&folder)?;
        let path = folder.join(format!("model-{}.log", std::process::id()));
        let file = File::options()
            .create_new(true)
            .read(true)
            .write(true)
            .open(&path)
            .with_context(|| format!("cannot make `{}`", path.display()))?;
        // It ends with this process, however that ends.
        std::fs::remove_file(&path)?;
        Ok(Self {
            out: BufWriter::with_capacity(1 << 20, file.try_clone()?),
            file,
            written: 0,
            flushed: 0,
            chunk: Vec::new(),
            chunk_at: 0,
            failed: None,
        })
    }

    fn load(&mut self, place: u64) -> std::io::Result<()> {
        if self.flushed < self.written {
            self.out.flush()?;
            self.flushed = self.written;
        }
        let count = CHUNK.min(self.written - place);
        let bytes = usize::try_from(count).unwrap_or(0) * BYTES;
        self.chunk.resize(bytes, 0);
        self.chunk_at = place;
        self.file
            .read_exact_at(&mut self.chunk, place * BYTES as u64)
    }

    fn chunked(&self, place: u64) -> Option<&[u8]> {
        let from = usize::try_from(place.checked_sub(self.chunk_at)?).ok()? * BYTES;
        self.chunk.get(from..from + BYTES)
    }
}

impl Log for FileLog {
    fn append(&mut self, record: [u32; RECORD]) {
        for word in record {
            if let Err(error) = self.out.write_all(&word.to_le_bytes()) {
                self.failed.get_or_insert(error);
            }
        }
        self.written += 1;
    }

    fn read(&mut self, place: u64) -> [u32; RECORD] {
        if self.chunked(place).is_none() {
            self.load(place)
                .expect("the log of states can be read back");
        }
        assert!(self.failed.is_none(), "the log of states can be written");
        let bytes = self.chunked(place).expect("that chunk was just read");
        let mut record = [0; RECORD];
        for (word, bytes) in record.iter_mut().zip(bytes.chunks_exact(4)) {
            *word = u32::from_le_bytes(bytes.try_into().expect("four bytes are four bytes"));
        }
        record
    }
}
