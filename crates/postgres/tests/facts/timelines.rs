//! Timelines: which number a promotion takes, whose child it is, and who can follow.

use nix::sys::signal::Signal;

use crate::server::{LIMIT, Server, never, program, until};

/// Two standbys that have the same, of a primary that is gone.
async fn two_standbys() -> (Server, Server) {
    let mut primary = Server::primary().await;
    let one = Server::standby_of(&primary, "one").await;
    let two = Server::standby_of(&primary, "two").await;
    write(&primary, 1).await;
    primary.caught_up(&one).await;
    primary.caught_up(&two).await;
    primary.end(Signal::SIGQUIT);
    (one, two)
}

async fn write(server: &Server, number: u32) {
    let sql = format!("INSERT INTO t VALUES ({number})");
    server.client().await.batch(&sql, LIMIT).await.unwrap();
}

/// The parents that a timeline's history names.
fn parents(server: &Server, timeline: u32) -> Vec<String> {
    let text = std::fs::read_to_string(server.history(timeline)).unwrap();
    text.lines()
        .filter_map(|line| Some(line.split_once('\t')?.0.to_owned()))
        .collect()
}

pub(crate) async fn two_candidates_open_one_timeline_and_rewind_does_not_see_it() {
    let (one, mut two) = two_standbys().await;
    one.promote().await;
    two.promote().await;
    assert_eq!(one.timeline().await, "00000002");
    assert_eq!(two.timeline().await, "00000002");
    write(&two, 22).await;
    write(&one, 11).await;
    write(&one, 12).await;
    for server in [&one, &two] {
        server
            .client()
            .await
            .batch("CHECKPOINT", LIMIT)
            .await
            .unwrap();
    }
    two.end(Signal::SIGINT);
    let source = format!("host=127.0.0.1 port={} user=postgres", one.port);
    let said = program("pg_rewind")
        .args(["--source-server", &source, "--target-pgdata"])
        .arg(&two.data)
        .env("LC_ALL", "C")
        .output()
        .unwrap();
    let text =
        String::from_utf8_lossy(&said.stdout).into_owned() + &String::from_utf8_lossy(&said.stderr);
    assert!(
        said.status.success() && text.contains("no rewind required"),
        "{text}"
    );
    // It keeps a row that its new primary never had.
    two.set("primary_conninfo", "");
    std::fs::write(two.data.join("standby.signal"), "").unwrap();
    two.start().await;
    let row = "SELECT count(*) FROM t WHERE i = 22";
    assert_eq!(
        (two.ask(row).await, one.ask(row).await),
        ("1".into(), "0".into())
    );
}

pub(crate) async fn an_empty_history_file_is_a_used_number() {
    let (one, _) = two_standbys().await;
    std::fs::write(one.history(2), "").unwrap();
    one.promote().await;
    assert_eq!(one.timeline().await, "00000003");
    assert_eq!(parents(&one, 3), ["1"]);
}

pub(crate) async fn a_true_history_file_makes_the_dead_branch_the_parent() {
    let (one, two) = two_standbys().await;
    one.promote().await;
    std::fs::copy(one.history(2), two.history(2)).unwrap();
    let seen = "new target timeline is 2";
    until("it has found the file", async || two.log().contains(seen)).await;
    two.promote().await;
    assert_eq!(two.timeline().await, "00000003");
    assert_eq!(parents(&two, 3), ["1", "2"]);
}

pub(crate) async fn an_empty_history_file_holds_a_restarted_standby_for_ever() {
    let (mut one, _) = two_standbys().await;
    std::fs::write(one.history(2), "").unwrap();
    one.end(Signal::SIGQUIT);
    one.launch();
    never("it comes up", async || one.answers().await).await;
    one.end(Signal::SIGQUIT);
    std::fs::remove_file(one.history(2)).unwrap();
    one.start().await;
}

/// A new primary under `names`, and a standby `two` that has received more than the switch point.
async fn past_the_fork(names: &str) -> (Server, Server) {
    let mut primary = Server::primary().await;
    let mut one = Server::standby_of(&primary, "one").await;
    let mut two = Server::standby_of(&primary, "two").await;
    one.set("synchronous_standby_names", names);
    one.load("primary_conninfo", "");
    until("it stops receiving", async || {
        one.process("walreceiver").await.is_none()
    })
    .await;
    let rows = "INSERT INTO t SELECT generate_series(1, 500)";
    primary.client().await.batch(rows, LIMIT).await.unwrap();
    primary.caught_up(&two).await;
    primary.end(Signal::SIGQUIT);
    one.promote().await;
    two.follow(&one, "two");
    two.reload();
    (one, two)
}

pub(crate) async fn a_standby_past_the_fork_is_turned_back_for_ever() {
    let (one, two) = past_the_fork("").await;
    write(&one, 1001).await;
    let refused = "before current recovery point";
    until("it says why", async || two.log().contains(refused)).await;
    let row = "SELECT count(*) FROM t WHERE i = 1001";
    never("it follows", async || two.ask(row).await == "1").await;
    let times = two.log().matches(refused).count();
    never("the row comes later", async || two.ask(row).await == "1").await;
    assert!(
        two.log().matches(refused).count() > times,
        "it does not try again"
    );
}

pub(crate) async fn a_standby_past_the_fork_acknowledges() {
    let (one, two) = past_the_fork("ANY 1 (two)").await;
    let commit = one.begin("INSERT INTO t VALUES (1001)").await;
    commit.await.unwrap().unwrap();
    let row = "SELECT count(*) FROM t WHERE i = 1001";
    assert_eq!(
        (one.ask(row).await, two.ask(row).await),
        ("1".into(), "0".into())
    );
}
