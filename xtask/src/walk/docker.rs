//! The quick start in containers: the tutorial's own Dockerfiles and compose files, nothing pulled.
//!
//! The base image is made of Debian packages under the name that the Dockerfile expects, the binary is
//! built outside, Citus comes from a folder. Images that were not there before are removed at the end,
//! containers, volumes and networks in any case.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::{Citus, Venue};
use crate::command::{self, Captured};
use crate::{console, interrupt, machine, process, scenario, wait, workspace};

const IMAGE: &str = "pg_auto_failover:citus";
const BASE: &str = "debian:bookworm-slim";
const SUITE: &str = "bookworm";

/// One command in a container; a planned move on a busy machine takes the longest.
const COMMAND: Duration = Duration::from_secs(120);
/// Making an image downloads and installs packages.
const BUILD: Duration = Duration::from_secs(1200);
/// Stopping nine Postgres.
const DOWN: Duration = Duration::from_secs(180);
/// A screen of `watch`.
const SCREEN: Duration = Duration::from_secs(30);

/// Containers, by docker-compose.
pub(super) struct Docker {
    folder: PathBuf,
    project: String,
    before: BTreeSet<String>,
    file: Option<&'static str>,
}

/// Whether there is an engine that answers, and docker-compose.
///
/// # Errors
/// What is missing.
pub(super) fn available() -> Result<(), String> {
    for program in ["docker", "docker-compose", "script"] {
        if machine::find_program(program).is_none() {
            return Err(format!("`{program}` is not installed"));
        }
    }
    let mut info = Command::new("docker");
    info.args(["info", "--format", "{{.ServerVersion}}"]);
    match command::capture(&mut info, Duration::from_secs(20)) {
        Ok(said) if said.status.success() => Ok(()),
        Ok(said) => Err(format!("no Docker engine answers: {}", said.stderr.trim())),
        Err(error) => Err(format!("no Docker engine answers: {error:#}")),
    }
}

impl Docker {
    /// Makes the images.
    ///
    /// # Errors
    /// When one cannot be made.
    pub(super) fn build(folder: &Path, citus: &Citus) -> Result<Self> {
        let docker = Self {
            folder: folder.to_owned(),
            project: format!("pgaf-walk-{}", std::process::id()),
            before: images()?,
            file: None,
        };
        if !docker.before.contains(BASE) {
            docker.make_base()?;
        }
        docker.lay_out(citus)?;
        let start = Instant::now();
        // The first stage by a name of its own, to be removed by that.
        docker.image(&docker.stage(), &["--target", "build"])?;
        docker.image(IMAGE, &[])?;
        let mut compose = docker.compose("docker-compose.yml", &["build", "-q"]);
        command::capture(&mut compose, BUILD)?.success("docker-compose build")?;
        console::good(&format!(
            "the images are made: {}",
            console::human(start.elapsed())
        ));
        Ok(docker)
    }

    fn stage(&self) -> String {
        format!("{}-build:latest", self.project)
    }

    fn image(&self, tag: &str, more: &[&str]) -> Result<()> {
        let mut build = Command::new("docker");
        build.args(["build", "-q", "-t", tag, "-f", "tutorial/Dockerfile"]);
        build.args(more);
        for argument in [
            format!("RUST_IMAGE={BASE}"),
            "PGDG_REPOSITORY=".to_owned(),
            "CITUS_REPOSITORY=".to_owned(),
        ] {
            build.args(["--build-arg", &argument]);
        }
        build.arg(".").current_dir(&self.folder);
        console::note(&format!("$ {}", command::shown(&build)));
        command::capture(&mut build, BUILD)?
            .success("docker build")
            .map(drop)
    }

    /// A Debian of packages, security updates included, imported under the name of the public image.
    fn make_base(&self) -> Result<()> {
        machine::install_missing(&[("debootstrap", "debootstrap")])?;
        console::note(&format!("making {BASE} of Debian packages"));
        let root = self.folder.join("base");
        let mut bootstrap = Command::new("debootstrap");
        bootstrap.args(["--variant=minbase", SUITE]).arg(&root);
        command::capture(&mut bootstrap, BUILD)?.success("debootstrap")?;
        let host = "http://deb.debian.org";
        let sources = format!(
            "deb {host}/debian {SUITE} main\ndeb {host}/debian {SUITE}-updates main\n\
             deb {host}/debian-security {SUITE}-security main\n"
        );
        fs::write(root.join("etc/apt/sources.list"), sources).context("sources.list")?;
        let archive = self.folder.join("base.tar");
        let mut tar = Command::new("tar");
        tar.arg("-C").arg(&root).arg("-cf").arg(&archive).arg(".");
        command::capture(&mut tar, BUILD)?.success("tar")?;
        let mut import = Command::new("docker");
        import.args(["import", "-c", "CMD [\"bash\"]"]);
        import.arg(&archive).arg(BASE);
        command::capture(&mut import, BUILD)?.success("docker import")?;
        fs::remove_dir_all(&root).context("cannot remove the Debian tree")?;
        fs::remove_file(&archive).context("cannot remove its archive")
    }

    /// The build context: the tutorial, the binary, Citus.
    fn lay_out(&self, citus: &Citus) -> Result<()> {
        let copy = |from: &Path, to: &str| -> Result<()> {
            let mut cp = Command::new("cp");
            cp.arg("-r").arg(from).arg(self.folder.join(to));
            command::capture(&mut cp, BUILD)?.success("cp").map(drop)
        };
        copy(&workspace::root().join("tutorial"), "tutorial")?;
        for folder in ["prebuilt/citus/lib", "prebuilt/citus/extension"] {
            fs::create_dir_all(self.folder.join(folder)).context("cannot make the context")?;
        }
        let (programs, _bin) = scenario::programs(None, false)?;
        copy(&programs.autoctl.join("pg_autoctl"), "prebuilt/pg_autoctl")?;
        for (from, to) in [(&citus.lib, "lib"), (&citus.extension, "extension")] {
            let entries = fs::read_dir(from).context("cannot read Citus' files")?;
            for entry in entries.flatten() {
                if entry.file_name().to_string_lossy().starts_with("citus") {
                    copy(&entry.path(), &format!("prebuilt/citus/{to}"))?;
                }
            }
        }
        Ok(())
    }

    fn compose(&self, file: &str, words: &[&str]) -> Command {
        let mut compose = Command::new("docker-compose");
        compose.args(["-p", &self.project, "-f", file]);
        compose.args(words);
        compose.current_dir(self.folder.join("tutorial"));
        compose
    }

    fn file(&self) -> Result<&'static str> {
        self.file.context("nothing is up")
    }

    /// The container of a service; of a node by its name when nobody named it.
    fn container(&self, service: &str) -> Result<String> {
        let file = self.file()?;
        let named = file == "docker-compose.yml" || service == "monitor";
        // Without names, the quick start asks "coord": either of the two knows.
        let kind = service.trim_end_matches(|letter: char| {
            letter.is_ascii_digit() || letter == 'a' || letter == 'b'
        });
        let service = if named { service } else { kind };
        let mut ps = self.compose(file, &["ps", "-q", service]);
        let said = command::capture(&mut ps, COMMAND)?.success("docker-compose ps")?;
        let first = said.lines().next().map(str::to_owned);
        first.with_context(|| format!("there is no container of {service}"))
    }

    /// docker's own view of a container.
    fn inspect(&self, service: &str, format: &str) -> Result<String> {
        let id = self.container(service)?;
        let mut inspect = Command::new("docker");
        inspect.args(["inspect", "--format", format, &id]);
        let said = command::capture(&mut inspect, COMMAND)?.success("docker inspect")?;
        Ok(said.trim().to_owned())
    }

    /// The number that the monitor gave a node.
    fn node_id(&mut self, name: &str) -> Result<String> {
        let said = self
            .exec("monitor", &["pg_autoctl", "show", "state"])?
            .success("show state")?;
        let row = said.lines().find(|line| line.trim().starts_with(name));
        let cell = row.and_then(|row| row.split('|').nth(1));
        Ok(cell
            .with_context(|| format!("no {name}"))?
            .trim()
            .to_owned())
    }
}

impl Venue for Docker {
    fn up(&mut self, scaled: bool) -> Result<()> {
        let file = if scaled {
            "docker-compose-scale.yml"
        } else {
            "docker-compose.yml"
        };
        self.file = Some(file);
        let words: &[&str] = if scaled {
            &["up", "-d", "--scale", "coord=2", "--scale", "worker=6"]
        } else {
            &["up", "-d"]
        };
        let mut up = self.compose(file, words);
        console::note(&format!("$ {}", command::shown(&up)));
        command::capture(&mut up, BUILD)?
            .success("docker-compose up")
            .map(drop)
    }

    fn exec(&mut self, service: &str, words: &[&str]) -> Result<Captured> {
        let id = self.container(service)?;
        let mut exec = Command::new("docker");
        exec.args(["exec", &id]).args(words);
        command::capture(&mut exec, COMMAND)
    }

    fn psql(&mut self, script: &str) -> Result<Captured> {
        let id = self.container("app")?;
        let path = self.folder.join("script.sql");
        fs::write(&path, script).context("cannot write the script")?;
        // Fed by a shell: `capture` gives its programs no input.
        let mut shell = Command::new("sh");
        shell.args([
            "-c",
            "exec docker exec -i \"$1\" psql -v ON_ERROR_STOP=1 < \"$2\"",
            "sh",
            &id,
        ]);
        shell.arg(&path);
        command::capture(&mut shell, COMMAND)
    }

    fn hand_over(&mut self, name: &str, text: &str) -> Result<String> {
        let id = self.container("app")?;
        let (here, there) = (self.folder.join(name), format!("/tmp/{name}"));
        fs::write(&here, text).context("cannot write the sample")?;
        let mut cp = Command::new("docker");
        cp.arg("cp").arg(&here).arg(format!("{id}:{there}"));
        command::capture(&mut cp, COMMAND)?.success("docker cp")?;
        Ok(there)
    }

    fn watch(&mut self, wanted: &str) -> Result<String> {
        let id = self.container("monitor")?;
        screen(&format!("docker exec -it {id} pg_autoctl watch"), wanted)
    }

    fn shown(&self, service: &str, words: &[&str]) -> String {
        let file = match self.file {
            Some("docker-compose-scale.yml") => {
                let kind = service.get(..5).filter(|kind| *kind == "coord");
                return format!(
                    "docker-compose -f docker-compose-scale.yml exec {} {}",
                    kind.unwrap_or(service),
                    quoted(words)
                );
            }
            _ => "docker-compose exec",
        };
        format!("{file} {service} {}", quoted(words))
    }

    /// The first process ends cleanly at SIGTERM and leaves no zombie, and a container that is made anew is
    /// the same node.
    fn peculiar(&mut self) -> Result<()> {
        console::heading("walk: a container is stopped, and made anew");
        let node = "worker3b";
        let before = self.node_id(node)?;
        let states = self.exec(node, &["ps", "-eo", "stat="])?.success("ps")?;
        ensure!(
            !states.lines().any(|state| state.starts_with('Z')),
            "{node} has zombies"
        );
        let file = self.file()?;
        let container = self.container(node)?;
        let mut stop = self.compose(file, &["stop", node]);
        command::capture(&mut stop, DOWN)?.success("docker-compose stop")?;
        let code = self.inspect(node, "{{.State.ExitCode}}")?;
        ensure!(code == "0", "{node} ended with {code}");
        let mut control = Command::new("docker");
        control.args(["run", "--rm", "--volumes-from", &container, IMAGE]);
        control.args(["pg_controldata", "-D", "/tmp/pgaf"]);
        let said = command::capture(&mut control, COMMAND)?.success("pg_controldata")?;
        ensure!(
            said.contains("shut down in recovery"),
            "Postgres was not shut down: {said}"
        );
        let mut again = self.compose(file, &["up", "-d", "--force-recreate", "--no-deps", node]);
        command::capture(&mut again, DOWN)?.success("docker-compose up")?;
        ensure!(
            self.container(node)? != container,
            "the container is the same"
        );
        wait::until("the same node, secondary again", COMMAND, || {
            let said = self.exec("monitor", &["pg_autoctl", "show", "state"])?;
            let row = said
                .stdout
                .lines()
                .find(|line| line.trim().starts_with(node));
            Ok(row.is_some_and(|row| {
                row.matches("secondary").count() == 2 && row.contains("read-only")
            }))
        })?;
        ensure!(self.node_id(node)? == before, "{node} has another number");
        console::good(&format!("{node} is {before} as before"));
        Ok(())
    }

    fn down(&mut self) -> Result<()> {
        let Some(file) = self.file.take() else {
            return Ok(());
        };
        let mut down = self.compose(file, &["down", "-v", "--remove-orphans", "-t", "60"]);
        down.stdin(Stdio::null());
        // Also at an interrupt: `capture` would give up at once.
        let output = down.output().context("cannot start docker-compose")?;
        ensure!(
            output.status.success(),
            "docker-compose down: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    fn pgdata(&self, _service: &str) -> String {
        "/tmp/pgaf".to_owned()
    }

    fn address(&self, service: &str) -> String {
        format!("{service}:5432")
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        if let Err(error) = self.down() {
            console::bad(&format!("{error:#}"));
        }
        let application = format!("{}_app:latest", self.project);
        for image in [application.as_str(), IMAGE, &self.stage(), BASE] {
            if self.before.contains(image) {
                continue;
            }
            let mut remove = Command::new("docker");
            remove.args(["rmi", image]).stdin(Stdio::null());
            match remove.output() {
                Ok(output) if output.status.success() => {}
                Ok(output) => console::bad(String::from_utf8_lossy(&output.stderr).trim()),
                Err(error) => console::bad(&format!("docker rmi: {error}")),
            }
        }
    }
}

fn images() -> Result<BTreeSet<String>> {
    let mut list = Command::new("docker");
    list.args(["images", "--format", "{{.Repository}}:{{.Tag}}"]);
    let said = command::capture(&mut list, COMMAND)?.success("docker images")?;
    Ok(said.lines().map(str::to_owned).collect())
}

fn quoted(words: &[&str]) -> String {
    let quote = |word: &&str| {
        if word.contains(' ') {
            format!("'{word}'")
        } else {
            (*word).to_owned()
        }
    };
    words.iter().map(quote).collect::<Vec<_>>().join(" ")
}

/// Runs a command on a terminal of its own until it shows `wanted`, then types `q`; answers what it drew.
/// It must end by itself, with success, off the alternate screen.
///
/// # Errors
/// When it does not.
pub(super) fn screen(line: &str, wanted: &str) -> Result<String> {
    let typed = format!("stty rows 40 cols 160; exec {line}");
    let mut script = Command::new("script");
    script.args(["-q", "-e", "-f", "-c", &typed, "/dev/null"]);
    let child = script.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = child.stderr(Stdio::null()).spawn().context("script")?;
    process::own(child.id());
    let (mut keys, mut output) = (
        child.stdin.take().context("no input")?,
        child.stdout.take().context("no output")?,
    );
    let drawn = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let copy = std::sync::Arc::clone(&drawn);
    let reader = std::thread::spawn(move || {
        use std::io::Read;
        let mut part = [0; 4096];
        while let Ok(count @ 1..) = output.read(&mut part) {
            if let Ok(mut all) = copy.lock() {
                all.extend_from_slice(&part[..count]);
            }
        }
    });
    let text = || {
        let all = drawn.lock().map(|all| all.clone()).unwrap_or_default();
        String::from_utf8_lossy(&all).into_owned()
    };
    let shown = wait::until("a screen of watch", SCREEN, || Ok(text().contains(wanted)));
    keys.write_all(b"q").context("cannot type")?;
    let ended = wait::until("watch ends at `q`", SCREEN, || {
        Ok(child.try_wait().context("script")?.is_some())
    });
    let _ = child.kill();
    let status = child.wait().context("script")?;
    process::disown(child.id());
    drop(keys);
    let _ = reader.join();
    interrupt::check()?;
    shown.with_context(text)?;
    ended?;
    if !status.success() || !text().contains("\u{1b}[?1049l") {
        bail!(
            "watch ended with {status} and left the terminal so: {:?}",
            text()
        );
    }
    Ok(text())
}
