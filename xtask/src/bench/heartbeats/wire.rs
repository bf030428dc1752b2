//! The least that a keeper's session needs of the Postgres protocol: what costs the load generator
//! time is missing in the measurement of the daemon.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

/// For a connection, and for an answer. Far above what a keeper allows: a daemon that is that late
/// shows in the figures.
const LIMIT: Duration = Duration::from_secs(30);

/// Code of the first message that asks for TLS. Source: Postgres' manual, "Message Formats".
const SSL_REQUEST: u32 = 80_877_103;
/// Protocol 3.0.
const VERSION: u32 = 3 << 16;

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// What came in.
#[derive(Debug)]
pub(super) enum Heard {
    /// The only column of a row.
    Row(String),
    /// The payload of a notification.
    Pushed(String),
    /// ReadyForQuery.
    Ready,
    /// An error's message.
    Error(String),
    /// Anything else.
    Other,
}

/// One session.
pub(super) struct Session {
    stream: Box<dyn Stream>,
    input: Vec<u8>,
    output: Vec<u8>,
}

impl Session {
    /// Connects and logs in.
    pub(super) async fn open(address: SocketAddr, tls: Option<&Arc<ClientConfig>>) -> Result<Self> {
        timeout(LIMIT, Self::connect(address, tls))
            .await
            .context("the monitor takes no session in time")?
    }

    async fn connect(address: SocketAddr, tls: Option<&Arc<ClientConfig>>) -> Result<Self> {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let stream: Box<dyn Stream> = match tls {
            None => Box::new(stream),
            Some(config) => {
                stream.write_all(&8u32.to_be_bytes()).await?;
                stream.write_all(&SSL_REQUEST.to_be_bytes()).await?;
                if stream.read_u8().await? != b'S' {
                    bail!("the monitor has no TLS");
                }
                let name = ServerName::from(address.ip());
                let connector = TlsConnector::from(Arc::clone(config));
                Box::new(connector.connect(name, stream).await?)
            }
        };
        let mut session = Self {
            stream,
            input: Vec::new(),
            output: Vec::new(),
        };
        let mut words = VERSION.to_be_bytes().to_vec();
        for word in [
            "user",
            "autoctl_node",
            "database",
            "pg_auto_failover",
            "application_name",
            "pg_autoctl keeper",
            "",
        ] {
            words.extend(word.as_bytes());
            words.push(0);
        }
        session.output.extend(length(words.len()));
        session.output.extend(words);
        session.finish().await.map(|_| session)
    }

    /// Prepares a statement.
    pub(super) async fn prepare(&mut self, name: &str, sql: &str) -> Result<()> {
        let text = [name.as_bytes(), b"\0", sql.as_bytes(), b"\0\0\0"].concat();
        self.put(b'P', &[&text]);
        self.put(b'S', &[]);
        self.finish().await.map(|_| ())
    }

    /// Runs a prepared statement with one parameter, as the driver of our keepers does: in one
    /// write. Answers the row, and what was pushed meanwhile.
    pub(super) async fn call(&mut self, name: &str, text: &str) -> Result<(String, Vec<String>)> {
        let length = length_of(text.len()).to_be_bytes();
        self.put(
            b'B',
            &[
                b"\0",
                name.as_bytes(),
                b"\0\0\x01\0\x01\0\x01",
                &length,
                text.as_bytes(),
                b"\0\x01\0\x01",
            ],
        );
        self.put(b'E', &[b"\0\0\0\0\0"]);
        self.put(b'S', &[]);
        let (rows, pushed) = self.finish().await?;
        let row = rows.into_iter().next().context("an answer without a row")?;
        Ok((row, pushed))
    }

    /// Runs a statement by the simple protocol; answers the first column of its rows.
    pub(super) async fn simple(&mut self, sql: &str) -> Result<Vec<String>> {
        self.put(b'Q', &[sql.as_bytes(), b"\0"]);
        self.finish().await.map(|(rows, _)| rows)
    }

    fn put(&mut self, kind: u8, parts: &[&[u8]]) {
        self.output.push(kind);
        self.output
            .extend(length(parts.iter().map(|part| part.len()).sum()));
        parts.iter().for_each(|part| self.output.extend(*part));
    }

    /// Sends, and reads up to ReadyForQuery.
    async fn finish(&mut self) -> Result<(Vec<String>, Vec<String>)> {
        let output = std::mem::take(&mut self.output);
        self.stream.write_all(&output).await?;
        self.stream.flush().await?;
        let (mut rows, mut pushed, mut error) = (Vec::new(), Vec::new(), None);
        loop {
            let heard = timeout(LIMIT, self.hear())
                .await
                .context("no answer in time")?;
            match heard.with_context(|| error.clone().unwrap_or_default())? {
                Heard::Row(row) => rows.push(row),
                Heard::Pushed(text) => pushed.push(text),
                Heard::Error(text) => error = Some(text),
                Heard::Ready => break,
                Heard::Other => {}
            }
        }
        match error {
            Some(error) => bail!("the monitor says: {error}"),
            None => Ok((rows, pushed)),
        }
    }

    /// The next message. Cancel safe.
    pub(super) async fn hear(&mut self) -> Result<Heard> {
        loop {
            if let [kind, a, b, c, d, ..] = self.input[..] {
                let end = 1 + usize::try_from(u32::from_be_bytes([a, b, c, d]))?;
                if self.input.len() >= end {
                    let heard = understand(kind, &self.input[5..end]);
                    self.input.drain(..end);
                    return Ok(heard);
                }
            }
            if self.stream.read_buf(&mut self.input).await? == 0 {
                bail!("the monitor closed a session");
            }
        }
    }
}

fn length_of(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

fn length(bytes: usize) -> [u8; 4] {
    length_of(bytes + 4).to_be_bytes()
}

fn understand(kind: u8, body: &[u8]) -> Heard {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match kind {
        // One column: its count, its length, its bytes.
        b'D' => Heard::Row(text(body.get(6..).unwrap_or_default())),
        b'Z' => Heard::Ready,
        b'A' => {
            let mut fields = body.get(4..).unwrap_or_default().split(|byte| *byte == 0);
            Heard::Pushed(text(fields.nth(1).unwrap_or_default()))
        }
        b'E' => {
            let fields = body.split(|byte| *byte == 0);
            let message = fields.filter(|field| field.first() == Some(&b'M'));
            Heard::Error(message.map(|field| text(&field[1..])).collect())
        }
        _ => Heard::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_pushes_and_errors_are_told_apart() {
        let row = understand(b'D', b"\0\x01\0\0\0\x02{}");
        assert!(matches!(row, Heard::Row(text) if text == "{}"));
        let pushed = understand(b'A', b"\0\0\0\x07pgaf_goal\0{\"a\":1}\0");
        assert!(matches!(pushed, Heard::Pushed(text) if text == "{\"a\":1}"));
        let error = understand(b'E', b"SERROR\0C55006\0Mnot yet\0\0");
        assert!(matches!(error, Heard::Error(text) if text == "not yet"));
    }
}
