//! A Postgres that is nothing but its answer to the monitor's probe: "I run, and I am a standby".

use std::net::SocketAddr;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Messages are shorter than this.
const BUFFER: usize = 1024;
/// Code of a request for TLS. Source: Postgres' manual, "Message Formats".
const SSL_REQUEST: [u8; 4] = 80_877_103_u32.to_be_bytes();

/// AuthenticationOk, a process id with its key, ReadyForQuery.
const WELCOME: &[u8] =
    b"R\0\0\0\x08\0\0\0\0S\0\0\0\x18server_version\x0015.0\0K\0\0\0\x0c\0\0\0\x01\0\0\0\x01Z\0\0\0\x05I";
/// A row with one column, `t`.
const YES: &[u8] = b"T\0\0\0\x1a\0\x01p\0\0\0\0\0\0\0\0\0\0\x10\0\x01\xff\xff\xff\xff\0\0D\0\0\0\x0b\0\x01\0\0\0\x01tC\0\0\0\x0dSELECT 1\0Z\0\0\0\x05I";

/// Listens on every loopback address.
pub(super) async fn listen() -> Result<(SocketAddr, TcpListener)> {
    let listener = TcpListener::bind("0.0.0.0:0").await;
    let listener = listener.context("cannot listen for probes")?;
    Ok((listener.local_addr()?, listener))
}

/// Answers probes until it is dropped.
pub(super) async fn serve(listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            // A probe that is dropped by the monitor is none of ours.
            let _ = answer(stream).await;
        });
    }
}

async fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let mut buffer = [0; BUFFER];
    loop {
        let length = stream.read(&mut buffer).await?;
        let message = &buffer[..length];
        match message {
            [] => return Ok(()),
            [b'Q', ..] => stream.write_all(YES).await?,
            [0, 0, 0, _, code @ ..] if code == SSL_REQUEST => stream.write_all(b"N").await?,
            [0, ..] => stream.write_all(WELCOME).await?,
            _ => return Ok(()),
        }
    }
}
