//! One host of a cluster: the monitor's, or a Postgres node's, with its processes and files.

use std::fs::OpenOptions;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use crate::command::{self, Captured};
use crate::machine::Account;
use crate::network::Namespace;
use crate::process::{self, Pids};

/// The longest that a command of `pg_autoctl` may take; `perform` itself waits up to a minute.
const COMMAND: Duration = Duration::from_secs(120);

/// What a cluster is made of: programs, and the user that runs them.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    /// The folder that holds `pg_autoctl`; the user can read it.
    pub(crate) autoctl: PathBuf,
    /// The folder of Postgres' own programs.
    pub(crate) postgres: PathBuf,
    pub(crate) account: Account,
}

/// Where a host's processes live.
#[derive(Debug)]
pub(crate) enum Place {
    /// On this machine, told apart by port.
    Loopback,
    /// In a network of their own.
    Namespace(Namespace),
}

/// A host and what runs on it.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) place: Place,
    pub(crate) port: u16,
    pub(crate) pgdata: PathBuf,
    pub(crate) log: PathBuf,
    /// What its programs find in their environment beside what every host's do.
    pub(crate) variables: Vec<(&'static str, String)>,
    dir: PathBuf,
    programs: Arc<Programs>,
    child: Option<Child>,
}

impl Host {
    /// Lays out the host's folders below `top`.
    ///
    /// # Errors
    /// When they cannot be made.
    pub(crate) fn new(
        top: &Path,
        name: &str,
        port: u16,
        mut place: Place,
        programs: &Arc<Programs>,
    ) -> Result<Self> {
        let dir = top.join(name);
        for folder in [
            dir.clone(),
            dir.join("home"),
            dir.join("run"),
            top.join("sock"),
        ] {
            programs.account.make_dir(&folder)?;
        }
        if let Place::Namespace(space) = &mut place {
            space.power_on()?;
        }
        Ok(Self {
            name: name.to_owned(),
            place,
            port,
            pgdata: dir.join("pgdata"),
            log: top.join(format!("{name}.log")),
            variables: Vec::new(),
            dir,
            programs: Arc::clone(programs),
            child: None,
        })
    }

    /// The address that the others know.
    pub(crate) fn address(&self) -> &str {
        match &self.place {
            Place::Loopback => "127.0.0.1",
            Place::Namespace(space) => &space.ip,
        }
    }

    /// The folder of Postgres' socket, shared by the hosts of a cluster.
    pub(crate) fn sockets(&self) -> PathBuf {
        self.dir.with_file_name("sock")
    }

    /// The environment of the host's programs, as (name, value). Nothing of the caller's comes through.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        let show = |path: &Path| path.display().to_string();
        let programs = &self.programs;
        let system = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin";
        let mut all = vec![
            (
                "PATH",
                format!(
                    "{}:{}:{system}",
                    show(&programs.autoctl),
                    show(&programs.postgres)
                ),
            ),
            ("HOME", show(&self.dir.join("home"))),
            ("XDG_RUNTIME_DIR", show(&self.dir.join("run"))),
            ("PGDATA", show(&self.pgdata)),
            ("PG_CONFIG", show(&programs.postgres.join("pg_config"))),
            ("PG_REGRESS_SOCK_DIR", show(&self.sockets())),
            ("PGHOST", show(&self.sockets())),
            ("LANG", "C.UTF-8".to_owned()),
        ];
        all.extend(self.variables.iter().cloned());
        all
    }

    /// A `pg_autoctl` command on this host.
    ///
    /// # Errors
    /// While the host is down.
    pub(crate) fn autoctl(&self, args: &[&str]) -> Result<Command> {
        let program = self.programs.autoctl.join("pg_autoctl");
        self.program(&program.display().to_string(), args)
    }

    /// Any program on this host, as the user that runs Postgres.
    ///
    /// # Errors
    /// While the host is down.
    pub(crate) fn program(&self, program: &str, args: &[&str]) -> Result<Command> {
        let mut words = match &self.place {
            Place::Loopback => Vec::new(),
            Place::Namespace(space) => space.enter(&self.dir)?,
        };
        words.extend(self.programs.account.prefix());
        words.push(program.to_owned());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).args(args).current_dir(&self.dir);
        command.env_clear().envs(self.environment());
        Ok(command)
    }

    /// Runs a `pg_autoctl` command to its end.
    ///
    /// # Errors
    /// When it cannot run or does not end; its failure is in the answer.
    pub(crate) fn run(&self, args: &[&str]) -> Result<Captured> {
        command::capture(&mut self.autoctl(args)?, COMMAND)
    }

    /// Starts the host's `pg_autoctl` daemon, powering the host on first.
    ///
    /// # Errors
    /// When it runs already, or cannot be started.
    pub(crate) fn start(&mut self, args: &[&str]) -> Result<()> {
        if self.is_running() {
            bail!("{} runs already", self.name);
        }
        if let Place::Namespace(space) = &mut self.place {
            space.power_on()?;
        }
        let log = OpenOptions::new().create(true).append(true).open(&self.log);
        let log = log.with_context(|| format!("cannot open `{}`", self.log.display()))?;
        let errors = log.try_clone().context("cannot share the log")?;
        // Its own process group: Ctrl-C is for xtask, which ends its hosts itself.
        let child = self
            .autoctl(args)?
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .with_context(|| format!("cannot start pg_autoctl on {}", self.name))?;
        process::own(child.id());
        self.child = Some(child);
        Ok(())
    }

    /// Whether the daemon that was started here still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        let ended = self
            .child
            .as_mut()
            .is_none_or(|child| !matches!(child.try_wait(), Ok(None)));
        if ended && let Some(child) = self.child.take() {
            process::disown(child.id());
        }
        !ended
    }

    /// # Errors
    /// When the daemon has ended; quotes its last words.
    pub(crate) fn must_run(&mut self) -> Result<()> {
        if self.is_running() {
            return Ok(());
        }
        bail!("{}: pg_autoctl has ended:\n{}", self.name, self.log_tail(6))
    }

    /// The last lines of what the host said.
    pub(crate) fn log_tail(&self, lines: usize) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        command::tail(&String::from_utf8_lossy(&bytes), lines)
    }

    /// Every process of the host.
    pub(crate) fn pids(&self) -> Pids {
        match &self.place {
            Place::Namespace(space) => process::in_namespace(&space.name),
            Place::Loopback => {
                let mut pids = process::working_in(&self.dir);
                if let Some(keeper) = self.child.as_ref().and_then(|c| i32::try_from(c.id()).ok()) {
                    pids.extend(process::tree(keeper));
                }
                pids
            }
        }
    }

    /// The daemon that was started here.
    pub(crate) fn daemon(&self) -> Option<i32> {
        self.child
            .as_ref()
            .and_then(|child| i32::try_from(child.id()).ok())
    }

    /// The processes of `pg_autoctl` on this host.
    pub(crate) fn keeper_pids(&self) -> Pids {
        self.pids()
            .into_iter()
            .filter(|pid| process::program(*pid).contains("pg_autoctl"))
            .collect()
    }

    /// The processes of Postgres on this host.
    pub(crate) fn postgres_pids(&self) -> Pids {
        self.pids()
            .into_iter()
            .filter(|pid| process::program(*pid).contains("postgres"))
            .filter(|pid| !process::program(*pid).contains("pg_autoctl"))
            .collect()
    }

    /// The postmaster's process id, from its file.
    ///
    /// # Errors
    /// When there is no such file.
    pub(crate) fn postmaster(&self) -> Result<i32> {
        let path = self.pgdata.join("postmaster.pid");
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read `{}`", path.display()))?;
        let first = text.lines().next().unwrap_or_default();
        first
            .parse()
            .with_context(|| format!("`{first}` is no process id"))
    }

    /// Whether the host listens on its port.
    pub(crate) fn listens(&self) -> bool {
        match &self.place {
            Place::Loopback => process::listens(std::process::id(), self.port),
            Place::Namespace(space) => space
                .holder()
                .is_some_and(|holder| process::listens(holder, self.port)),
        }
    }

    /// Signals every process of the host, twice: one may have been started meanwhile.
    ///
    /// # Errors
    /// When a signal is refused.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        process::send(&self.pids(), signal)?;
        process::send(&self.pids(), signal)
    }

    /// Kills `pg_autoctl` and leaves Postgres.
    ///
    /// # Errors
    /// When it does not go.
    pub(crate) fn kill_keeper(&mut self) -> Result<()> {
        let ended = process::end_all(|| self.keeper_pids());
        self.collect();
        ended
    }

    /// Kills every process of the host at once.
    ///
    /// # Errors
    /// When some do not go.
    pub(crate) fn kill(&mut self) -> Result<()> {
        let ended = match &mut self.place {
            Place::Namespace(space) => space.power_off(),
            Place::Loopback => process::end_all(|| self.pids()),
        };
        self.collect();
        ended
    }

    fn collect(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It was killed by whoever calls this.
            let _ = child.kill();
            let _ = child.wait();
            process::disown(child.id());
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            crate::console::bad(&format!("{}: {error:#}", self.name));
        }
    }
}
