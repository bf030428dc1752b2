//! Notifications: to listeners, to one keeper, and only at the right moment.

use std::time::{Duration, Instant};

use pgaf_monitor::sql::Channel;
use tokio::io::AsyncWriteExt;

use super::support::{message, raw_session, read_all, start};

const PATIENCE: Duration = Duration::from_secs(5);

#[tokio::test]
async fn an_idle_listener_hears_at_once() {
    let server = start().await;
    let (client, mut heard) = server.connect().await;
    client
        .batch_execute("LISTEN \"state\"; listen log")
        .await
        .unwrap();
    server.fake.wait_for("subscribe state=true log=true").await;
    let start = Instant::now();
    server
        .fake
        .hub
        .publish(Channel::State, "{\"type\":\"state\"}");
    let notification = tokio::time::timeout(PATIENCE, heard.recv())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (notification.channel(), notification.payload()),
        ("state", "{\"type\":\"state\"}")
    );
    assert!(
        start.elapsed() < Duration::from_millis(200),
        "{:?}",
        start.elapsed()
    );
    server.fake.hub.publish(Channel::Log, "line");
    let notification = tokio::time::timeout(PATIENCE, heard.recv())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (notification.channel(), notification.payload()),
        ("log", "line")
    );
    client.batch_execute("UNLISTEN *").await.unwrap();
    server.fake.hub.publish(Channel::State, "unheard");
    client.batch_execute("listen state").await.unwrap();
    server.fake.hub.publish(Channel::State, "heard");
    let notification = tokio::time::timeout(PATIENCE, heard.recv())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(notification.payload(), "heard");
}

#[tokio::test]
async fn nothing_is_pushed_inside_a_transaction_or_a_batch() {
    let server = start().await;
    let (client, mut heard) = server.connect().await;
    client.batch_execute("listen state; begin").await.unwrap();
    server.fake.hub.publish(Channel::State, "later");
    client.batch_execute("select 1").await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(heard.try_recv().is_err());
    client.batch_execute("commit").await.unwrap();
    let notification = tokio::time::timeout(PATIENCE, heard.recv())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(notification.payload(), "later");

    let mut stream = raw_session(&server, "batch").await;
    stream
        .write_all(&message(b'Q', b"listen state\0"))
        .await
        .unwrap();
    read_all(&mut stream, Duration::from_millis(100)).await;
    stream
        .write_all(&message(b'P', b"\0select 1\0\0\0"))
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    server.fake.hub.publish(Channel::State, "after the batch");
    stream.write_all(&message(b'H', &[])).await.unwrap();
    let answer = read_all(&mut stream, Duration::from_millis(200)).await;
    assert_eq!(answer, b"1\0\0\0\x04");
    stream.write_all(&message(b'S', &[])).await.unwrap();
    let answer = read_all(&mut stream, Duration::from_millis(200)).await;
    assert_eq!(answer[0], b'A');
    assert!(answer.ends_with(b"Z\0\0\0\x05I"));
}

#[tokio::test]
async fn listening_begins_at_commit_and_not_after_a_rollback() {
    let server = start().await;
    let (client, _) = server.connect().await;
    client
        .batch_execute("begin; listen state; rollback")
        .await
        .unwrap();
    assert!(
        !server
            .fake
            .log()
            .iter()
            .any(|line| line.starts_with("subscribe state=true"))
    );
    client
        .batch_execute("begin; listen state; commit")
        .await
        .unwrap();
    server.fake.wait_for("subscribe state=true").await;
}

#[tokio::test]
async fn a_goal_goes_to_its_keeper_without_listen() {
    let server = start().await;
    let (keeper, mut goals) = server.connect().await;
    let (other, mut nothing) = server.connect().await;
    let answer = keeper
        .query_one("select pgautofailover.keeper_report($1)", &[&"{}"])
        .await
        .unwrap();
    assert_eq!(answer.get::<_, &str>(0), "{}");
    let goal = tokio::time::timeout(PATIENCE, goals.recv())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (goal.channel(), goal.payload()),
        ("pgaf_goal", "{\"goal\":1}")
    );
    other.batch_execute("select 1").await.unwrap();
    assert!(nothing.try_recv().is_err());
}

#[tokio::test]
async fn a_listener_that_does_not_read_is_dropped() {
    let server = start().await;
    let mut stream = raw_session(&server, "deaf").await;
    stream
        .write_all(&message(b'Q', b"listen state; begin\0"))
        .await
        .unwrap();
    server.fake.wait_for("subscribe state=true").await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    for _ in 0..65 {
        server.fake.hub.publish(Channel::State, "full");
    }
    stream
        .write_all(&message(b'Q', b"select 1\0"))
        .await
        .unwrap();
    let answer = read_all(&mut stream, Duration::from_secs(2)).await;
    assert!(String::from_utf8_lossy(&answer).contains("notifications were not read"));
    server.fake.wait_for("closed Dropped deaf").await;
}

#[tokio::test]
async fn psql_hears_too() {
    let server = start().await;
    let hub = server.fake.hub.clone();
    tokio::spawn(async move {
        for _ in 0..40 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            hub.publish(Channel::State, "{}");
        }
    });
    let args = ["-c", "listen state", "-c", "\\! sleep 1", "-c", "select 1"];
    let printed = server.psql_with(&server.uri(""), &args, &[]).await;
    assert!(
        printed
            .out
            .contains("Asynchronous notification \"state\" with payload \"{}\" received"),
        "{}{}",
        printed.out,
        printed.err
    );
}
