//! Reads a scenario. A line that is not understood to its end is refused, with its number and the
//! verb's form; nothing is guessed.

use core::time::Duration;

use thiserror::Error;

use super::{Condition, Expectation, Host, Line, Link, Node, Script, Step, VERBS};

/// The largest group that fits into the harness' addresses and names; chosen.
const MAX_NODES: u8 = 9;

/// Why a scenario cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("line {line}: {problem}")]
pub struct ScriptError {
    /// Counted from 1; the last line when something is missing at the end.
    pub line: usize,
    /// What is wrong, and what would be right.
    pub problem: String,
}

/// What is wrong with a line, before its number is known.
type Parsed<T> = Result<T, String>;

impl Script {
    /// Reads a scenario from the text of its file.
    ///
    /// # Errors
    /// Names the first line that is not understood, and the form it should have.
    pub fn parse(text: &str) -> Result<Self, ScriptError> {
        let mut story = Vec::new();
        let mut nodes = None;
        let mut steps = Vec::new();
        let mut last = 1;
        for (index, raw) in text.lines().enumerate() {
            let number = index + 1;
            last = number;
            let at = |problem| ScriptError {
                line: number,
                problem,
            };
            let words = split(raw).map_err(at)?;
            match (words.as_slice(), nodes) {
                ([], None) => story.extend(raw.trim().strip_prefix('#').map(str::trim)),
                ([], Some(_)) => {}
                (words, None) => nodes = Some(cluster(words).map_err(at)?),
                (words, Some(count)) => {
                    let step = step(words, count).map_err(at)?;
                    steps.push(Line { number, step });
                }
            }
        }
        let at_end = |problem: &str| ScriptError {
            line: last,
            problem: problem.to_owned(),
        };
        let nodes = nodes.ok_or_else(|| at_end("no `cluster N nodes` line"))?;
        if story.is_empty() {
            return Err(at_end("no comment above `cluster` tells the story"));
        }
        if steps.is_empty() {
            return Err(at_end("no step follows `cluster`"));
        }
        Ok(Self {
            story: story.join("\n"),
            nodes,
            steps,
        })
    }
}

/// A word of a line; quoted text is one word and never a keyword.
#[derive(Debug, PartialEq, Eq)]
enum Word<'a> {
    Bare(&'a str),
    Quoted(&'a str),
}

fn split(line: &str) -> Parsed<Vec<Word<'_>>> {
    let mut words = Vec::new();
    let mut rest = line.trim();
    while !rest.is_empty() && !rest.starts_with('#') {
        if let Some(open) = rest.strip_prefix('"') {
            let end = open
                .find('"')
                .ok_or("a quoted text is not closed on its line")?;
            let (text, tail) = open.split_at(end);
            words.push(Word::Quoted(text));
            rest = tail[1..].trim_start();
        } else {
            let end = rest.find([' ', '\t']).unwrap_or(rest.len());
            let (text, tail) = rest.split_at(end);
            words.push(Word::Bare(text));
            rest = tail.trim_start();
        }
    }
    Ok(words)
}

fn cluster(words: &[Word<'_>]) -> Parsed<u8> {
    use Word::Bare;
    match words {
        [Bare("cluster"), Bare(count), Bare("nodes")] => count
            .parse()
            .ok()
            .filter(|n| (2..=MAX_NODES).contains(n))
            .ok_or_else(|| format!("`{count}` nodes: a number from 2 to {MAX_NODES} is wanted")),
        _ => Err("the first line must be `cluster N nodes`".to_owned()),
    }
}

fn step(words: &[Word<'_>], nodes: u8) -> Parsed<Step> {
    use Word::{Bare, Quoted};
    let node = |text: &str| node(text, nodes);
    let host = |text: &str| host(text, nodes);
    Ok(match words {
        [Bare("write"), Bare("start")] => Step::WriteStart,
        [Bare("write"), Bare("stop")] => Step::WriteStop,
        [Bare("perform"), Quoted(text)] => command("perform", text, false)?,
        [Bare("perform"), Quoted(text), Bare("refused")] => command("perform", text, true)?,
        [Bare("set"), Quoted(text)] => command("set", text, false)?,
        [Bare("set"), Quoted(text), Bare("refused")] => command("set", text, true)?,
        [Bare("drop"), Bare(who)] => Step::Drop(node(who)?),
        [Bare("set"), Bare(who), Bare("maintenance")] => Step::Maintain {
            node: node(who)?,
            refused: false,
        },
        [Bare("set"), Bare(who), Bare("maintenance"), Bare("refused")] => Step::Maintain {
            node: node(who)?,
            refused: true,
        },
        [Bare("set"), Bare(who), Bare("online")] => Step::Resume(node(who)?),
        [Bare("kill-postgres"), Bare(who)] => Step::KillPostgres(node(who)?),
        [Bare("kill-keeper"), Bare(who)] => Step::KillKeeper(node(who)?),
        [Bare("kill-host"), Bare("all")] => Step::KillHost(vec![Host::All]),
        [Bare("kill-host"), whom @ ..] if !whom.is_empty() => Step::KillHost(
            whom.iter()
                .map(|who| match who {
                    Bare("all") | Quoted(_) => Err(unknown(&Bare("kill-host"))),
                    Bare(who) => host(who),
                })
                .collect::<Parsed<_>>()?,
        ),
        [Bare("start-host"), Bare(who)] => Step::StartHost(host(who)?),
        [Bare("freeze"), Bare(who)] => Step::Freeze(host(who)?),
        [Bare("freeze"), Bare(who), Bare("keeper")] => Step::FreezeKeeper(node(who)?),
        [Bare("thaw"), Bare(who)] => Step::Thaw(host(who)?),
        [Bare("cut"), rest @ ..] => Step::Cut(link("cut", rest, nodes)?),
        [Bare("mend"), rest @ ..] => Step::Mend(link("mend", rest, nodes)?),
        [Bare("wait"), rest @ ..] => wait(rest, nodes)?,
        [Bare("expect"), rest @ ..] => Step::Expect(expectation(rest, nodes)?),
        [first, ..] => return Err(unknown(first)),
        [] => return Err("an empty line is no step".to_owned()),
    })
}

/// The form of a known verb, or the list of verbs.
fn unknown(first: &Word<'_>) -> String {
    let (Word::Bare(verb) | Word::Quoted(verb)) = first;
    match VERBS.iter().find(|(name, ..)| name == verb) {
        Some((_, form, _)) => format!("the form of `{verb}` is: {form}"),
        None => {
            let names: Vec<_> = VERBS.iter().map(|(name, ..)| *name).collect();
            format!("there is no verb `{verb}`; there are {}", names.join(", "))
        }
    }
}

fn command(verb: &str, text: &str, refused: bool) -> Parsed<Step> {
    let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    if words.is_empty() {
        return Err(format!(
            "`{verb}` wants the words after `pg_autoctl {verb}`"
        ));
    }
    Ok(match verb {
        "set" => Step::Set { words, refused },
        _ => Step::Perform { words, refused },
    })
}

fn link(verb: &'static str, words: &[Word<'_>], nodes: u8) -> Parsed<Link> {
    use Word::Bare;
    let [Bare(one), Bare(way @ ("from" | "to")), Bare(other)] = words else {
        return Err(unknown(&Bare(verb)));
    };
    let link = Link {
        one: host(one, nodes)?,
        other: host(other, nodes)?,
        one_way: *way == "to",
    };
    if link.one == Host::All || link.one == link.other {
        return Err(unknown(&Bare(verb)));
    }
    Ok(link)
}

fn wait(words: &[Word<'_>], nodes: u8) -> Parsed<Step> {
    use Word::Bare;
    let (until, within) = match words {
        [Bare("settled"), Bare(time)] => (Condition::Settled, time),
        [Bare("writes"), Bare(time)] => (Condition::Writes, time),
        [Bare(who), Bare("gone"), Bare(time)] => (Condition::Gone(node(who, nodes)?), time),
        [Bare(who), Bare(name), Bare(time)] => {
            (Condition::State(node(who, nodes)?, state(name)?), time)
        }
        [Bare(time)] => (Condition::Time, time),
        _ => return Err(unknown(&Bare("wait"))),
    };
    Ok(Step::Wait {
        until,
        within: duration(within)?,
    })
}

fn expectation(words: &[Word<'_>], nodes: u8) -> Parsed<Expectation> {
    use Word::{Bare, Quoted};
    Ok(match words {
        [Bare("primary"), Bare(who)] => Expectation::Primary(node(who, nodes)?),
        [Bare("outage"), Bare("<"), Bare(time)] => Expectation::OutageBelow(duration(time)?),
        [Bare("no-failover"), Bare(time)] => Expectation::NoFailover(duration(time)?),
        [Bare("no-writes"), Bare(time)] => Expectation::NoWrites(duration(time)?),
        [Bare("nothing"), Bare("lost")] => Expectation::NothingLost,
        [Bare("postgres-kept"), Bare(who)] => Expectation::PostgresKept(node(who, nodes)?),
        [Bare("session-kept"), Bare(who)] => Expectation::SessionKept(node(who, nodes)?),
        [Bare("explain"), Bare("says"), Quoted(text)] => {
            Expectation::ExplainSays((*text).to_owned())
        }
        [Bare("event"), Bare("says"), Quoted(text)] => Expectation::EventSays((*text).to_owned()),
        _ => return Err(unknown(&Bare("expect"))),
    })
}

fn node(text: &str, nodes: u8) -> Parsed<Node> {
    match text {
        "primary" => Ok(Node::Primary),
        "standby" => Ok(Node::Standby),
        _ => text
            .strip_prefix("node")
            .and_then(|number| number.parse().ok())
            .filter(|number| (1..=nodes).contains(number))
            .map(Node::Number)
            .ok_or_else(|| {
                format!(
                    "there is no node `{text}`; there are node1 to node{nodes}, primary, standby"
                )
            }),
    }
}

fn host(text: &str, nodes: u8) -> Parsed<Host> {
    match text {
        "monitor" => Ok(Host::Monitor),
        "all" => Ok(Host::All),
        _ => node(text, nodes)
            .map(Host::Node)
            .map_err(|e| format!("{e}, monitor, all")),
    }
}

/// State names are checked for their shape only: the list of states is the protocol's.
fn state(text: &str) -> Parsed<String> {
    if !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || c == '_') {
        Ok(text.to_owned())
    } else {
        Err(format!("`{text}` is no state name"))
    }
}

fn duration(text: &str) -> Parsed<Duration> {
    let wrong = || format!("`{text}` is no time; write 30s, 1.5s or 500ms");
    let millis = if let Some(number) = text.strip_suffix("ms") {
        number.parse::<u64>().map_err(|_| wrong())?
    } else {
        let seconds = text.strip_suffix('s').ok_or_else(wrong)?;
        let (whole, part) = seconds.split_once('.').unwrap_or((seconds, "0"));
        let whole: u64 = whole.parse().map_err(|_| wrong())?;
        let tenths: u64 = part.parse().ok().filter(|t| *t < 10).ok_or_else(wrong)?;
        whole * 1000 + tenths * 100
    };
    if millis == 0 {
        Err(wrong())
    } else {
        Ok(Duration::from_millis(millis))
    }
}
