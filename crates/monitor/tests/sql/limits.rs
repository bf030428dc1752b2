//! What a client may cost, and how its end is seen.

use std::time::{Duration, Instant};

use pgaf_monitor::sql::{EndpointConfig, Limits};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::support::{
    Server, config, exchange, message, raw_session, read_all, start, start_with, startup,
};

async fn limited(change: impl FnOnce(&mut Limits)) -> Server {
    let mut limits = Limits::default();
    change(&mut limits);
    start_with(EndpointConfig { limits, ..config() }).await
}

#[tokio::test]
async fn one_connection_too_many_is_told_so() {
    let server = limited(|limits| limits.connections = 2).await;
    let one = raw_session(&server, "one").await;
    let _two = raw_session(&server, "two").await;
    let error = server
        .psql_with(&server.uri("sslmode=disable"), &["-c", "select 1"], &[])
        .await
        .err;
    assert!(error.contains("sorry, too many clients already"), "{error}");
    drop(one);
    server.fake.wait_for("closed Eof one").await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(server.one("select 1").await, "1");
}

#[tokio::test]
async fn connections_that_say_nothing_do_not_lock_others_out_for_long() {
    let server = limited(|limits| {
        limits.unauthenticated_connections = 3;
        limits.authentication_time = Duration::from_millis(500);
    })
    .await;
    let mut silent = Vec::new();
    for _ in 0..3 {
        silent.push(server.raw().await);
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    let error = server
        .psql_with(&server.uri(""), &["-c", "select 1"], &[])
        .await
        .err;
    assert!(error.contains("too many clients"), "{error}");
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(server.one("select 1").await, "1");
    let mut byte = [0];
    assert_eq!(silent[0].read(&mut byte).await.unwrap(), 0);
}

#[tokio::test]
async fn large_messages_are_refused_before_they_are_read() {
    let server = start().await;
    let mut stream = server.raw().await;
    let answer = exchange(&mut stream, &20_000_u32.to_be_bytes()).await;
    assert!(String::from_utf8_lossy(&answer).contains("invalid length of startup packet"));
    let mut stream = raw_session(&server, "large").await;
    let mut packet = vec![b'Q'];
    packet.extend_from_slice(&(1024 * 1024 + 1_u32).to_be_bytes());
    let answer = exchange(&mut stream, &packet).await;
    assert!(String::from_utf8_lossy(&answer).contains("longer than the limit"));
    server.fake.wait_for("closed Dropped large").await;
    // Just below the limit is fine, as a parameter.
    let (client, _) = server.connect().await;
    let report = "x".repeat(1_000_000);
    let row = client
        .query_one("select pgautofailover.keeper_report($1)", &[&report])
        .await
        .unwrap();
    assert_eq!(row.get::<_, &str>(0).len(), 1_000_000);
}

#[tokio::test]
async fn half_a_message_and_an_open_transaction_have_their_time() {
    let server = limited(|limits| {
        limits.message_time = Duration::from_millis(200);
        limits.idle_in_transaction_time = Duration::from_millis(400);
    })
    .await;
    let mut half = raw_session(&server, "half").await;
    half.write_all(b"Q\0\0\0\x20sel").await.unwrap();
    let mut open = raw_session(&server, "open").await;
    open.write_all(&message(b'Q', b"begin\0")).await.unwrap();
    let _idle = raw_session(&server, "idle").await;
    let answer = read_all(&mut half, Duration::from_secs(2)).await;
    assert!(
        String::from_utf8_lossy(&answer).contains("57P05"),
        "{answer:?}"
    );
    let answer = read_all(&mut open, Duration::from_secs(2)).await;
    assert!(
        String::from_utf8_lossy(&answer).contains("25P03"),
        "{answer:?}"
    );
    server.fake.wait_for("closed Dropped open").await;
    assert!(
        !server
            .fake
            .log()
            .iter()
            .any(|line| line.ends_with("idle") && line.starts_with("closed"))
    );
}

#[tokio::test]
async fn the_end_of_a_session_is_told_at_once_and_how() {
    let server = start().await;
    let fin = raw_session(&server, "fin").await;
    let start = Instant::now();
    drop(fin);
    server.fake.wait_for("closed Eof fin").await;
    assert!(
        start.elapsed() < Duration::from_millis(200),
        "{:?}",
        start.elapsed()
    );
    let rst = raw_session(&server, "rst").await;
    rst.set_zero_linger().unwrap();
    drop(rst);
    server.fake.wait_for("closed Reset rst").await;
    let mut bye = raw_session(&server, "bye").await;
    bye.write_all(&message(b'X', &[])).await.unwrap();
    server.fake.wait_for("closed Terminated bye").await;
    let mut last = raw_session(&server, "last").await;
    server.shutdown.cancel();
    let answer = read_all(&mut last, Duration::from_secs(2)).await;
    assert!(String::from_utf8_lossy(&answer).contains("57P01"));
    server.fake.wait_for("closed Shutdown last").await;
}

#[tokio::test]
async fn pings_and_cancel_requests_are_harmless() {
    let server = start().await;
    let ping = tokio::process::Command::new("pg_isready")
        .args(["-h", "127.0.0.1", "-p", &server.port.to_string()])
        .output()
        .await
        .unwrap();
    assert!(ping.status.success(), "{ping:?}");
    let mut stream = server.raw().await;
    let mut cancel = 16_u32.to_be_bytes().to_vec();
    cancel.extend_from_slice(&80_877_102_u32.to_be_bytes());
    cancel.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 2]);
    assert_eq!(exchange(&mut stream, &cancel).await, b"");
    let mut stream = server.raw().await;
    let mut gss = 8_u32.to_be_bytes().to_vec();
    gss.extend_from_slice(&80_877_104_u32.to_be_bytes());
    assert_eq!(exchange(&mut stream, &gss).await, b"N");
    assert!(
        !server
            .fake
            .log()
            .iter()
            .any(|line| line.starts_with("opened pg_isready"))
    );
    // A newer minor version is negotiated down.
    let mut stream = server.raw().await;
    let mut packet = startup(&[("user", "autoctl_node"), ("database", "pg_auto_failover")]);
    packet[7] = 2;
    let answer = exchange(&mut stream, &packet).await;
    assert_eq!(&answer[..9], b"v\0\0\0\x0c\0\x03\0\0");
    assert!(answer.ends_with(b"Z\0\0\0\x05I"));
}

/// Resident memory of this process in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

async fn listener(server: &Server) -> tokio::net::TcpStream {
    let mut session = raw_session(server, "small").await;
    session
        .write_all(&message(b'Q', b"listen state; select 1\0"))
        .await
        .unwrap();
    read_until_ready(&mut session).await;
    session
}

#[tokio::test]
async fn an_idle_session_costs_a_few_kilobytes() {
    /// Most KiB per session, our end and the client's together. The goal for ten thousand
    /// connections is 250 MiB.
    const MOST: u64 = 20;
    /// First these, so that threads, pools and the allocator have what they want.
    const BEFORE: usize = 300;
    const MORE: usize = 2000;
    let server = start().await;
    let mut sessions = Vec::with_capacity(BEFORE + MORE);
    for _ in 0..BEFORE {
        sessions.push(listener(&server).await);
    }
    let before = resident();
    for _ in 0..MORE {
        sessions.push(listener(&server).await);
    }
    let grown = resident().saturating_sub(before);
    println!("{grown} KiB for {MORE} sessions");
    assert!(
        grown < MORE as u64 * MOST,
        "{grown} KiB for {MORE} sessions"
    );
}

async fn read_until_ready(stream: &mut tokio::net::TcpStream) {
    let mut seen = Vec::new();
    while !seen.ends_with(b"Z\0\0\0\x05I") {
        let mut chunk = [0u8; 512];
        let count = stream.read(&mut chunk).await.unwrap();
        assert!(count > 0);
        seen.extend_from_slice(&chunk[..count]);
    }
}
