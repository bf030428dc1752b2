use super::*;

fn sh(script: &str) -> Invocation<'static> {
    Invocation::new(Path::new("/bin/sh")).args(["-c", script])
}

#[tokio::test]
async fn output_and_status_come_back() {
    let done = sh("echo out; echo one >&2; printf 'two\\rthree' >&2; exit 3")
        .run()
        .await
        .unwrap();
    assert_eq!(done.status.code(), Some(3));
    assert_eq!(done.stdout, "out\n");
    assert_eq!(done.stderr, ["one", "two", "three"]);
    assert_eq!(done.reason(), "one; two; three");
}

#[tokio::test]
async fn lines_are_heard_as_they_come_and_may_stop_the_program() {
    let mut heard = Vec::new();
    let error = sh("echo a >&2; echo b >&2; sleep 60")
        .on_line(|line| {
            heard.push(line.to_owned());
            if line == "b" {
                Verdict::Stop
            } else {
                Verdict::Ordinary
            }
        })
        .run()
        .await
        .unwrap_err();
    assert!(matches!(error, CommandError::Stopped { .. }), "{error}");
    assert_eq!(heard, ["a", "b"]);
}

#[tokio::test]
async fn a_deadline_kills_the_program_and_what_it_started() {
    let begin = Instant::now();
    let dir = tempfile::tempdir().unwrap();
    let pid = dir.path().join("pid");
    let script = format!("sleep 60 & echo $! > {}; wait", pid.display());
    let error = sh(&script)
        .deadline(Duration::from_millis(300))
        .run()
        .await
        .unwrap_err();
    assert!(matches!(error, CommandError::Deadline { .. }), "{error}");
    assert!(begin.elapsed() < Duration::from_secs(5));
    let child: i32 = std::fs::read_to_string(pid)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    wait_until_dead(child).await;
}

#[tokio::test]
async fn no_progress_kills_and_progress_does_not() {
    let ticking = "for i in 1 2 3 4 5 6; do echo tick >&2; sleep 0.1; done";
    sh(ticking)
        .stall(Duration::from_millis(400))
        .on_line(|_| Verdict::Progress)
        .run()
        .await
        .unwrap();
    let error = sh(ticking)
        .stall(Duration::from_millis(200))
        .on_line(|_| Verdict::Ordinary)
        .run()
        .await
        .unwrap_err();
    assert!(matches!(error, CommandError::Stalled { .. }), "{error}");
}

#[tokio::test]
async fn dropping_the_run_kills_the_program() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pid");
    let script = format!("echo $$ > {}; sleep 60", file.display());
    let run = sh(&script).run();
    assert!(
        tokio::time::timeout(Duration::from_millis(300), run)
            .await
            .is_err()
    );
    let pid: i32 = std::fs::read_to_string(file)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    wait_until_dead(pid).await;
}

#[tokio::test]
async fn a_program_left_behind_with_the_pipes_does_not_hold_us_up() {
    let begin = Instant::now();
    let done = sh("sleep 5 & echo x").run().await.unwrap();
    assert_eq!(done.stdout, "x\n");
    assert!(begin.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn a_secret_goes_through_the_environment_and_is_not_printed() {
    let secret = Secret::new("hunter2");
    let done = sh("echo $PGPASSWORD")
        .secret_env("PGPASSWORD", &secret)
        .run()
        .await
        .unwrap();
    assert_eq!(done.stdout, "hunter2\n");
}

#[tokio::test]
async fn a_missing_program_is_named() {
    let error = Invocation::new(Path::new("/nonexistent/initdb"))
        .run()
        .await
        .unwrap_err();
    assert!(error.to_string().contains("/nonexistent/initdb"), "{error}");
}

async fn wait_until_dead(pid: i32) {
    for _ in 0..200 {
        if !crate::processes::lives(pid) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("process {pid} still lives");
}
