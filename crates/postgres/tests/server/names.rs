//! Synchronous replication: turned on, confirmed, overridden, turned off.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use pgaf_postgres::conf::{Enforced, StandbyNames};
use pgaf_postgres::server::{Confirmation, NotYet};

use crate::cluster::{Cluster, LIMIT, until};

fn any(number: u32, ids: &[u32]) -> StandbyNames {
    let names = ids
        .iter()
        .map(|id| format!("pgautofailover_standby_{id}"))
        .collect();
    StandbyNames::Any { number, names }
}

fn is_confirmed(confirmation: &Confirmation) -> bool {
    matches!(confirmation, Confirmation::Confirmed { .. })
}

#[tokio::test]
async fn waiting_is_turned_on_confirmed_changed_and_turned_off() {
    let Some(primary) = Cluster::primary().await else {
        return;
    };
    let _standby = Cluster::standby_of(&primary, 2).await;
    let names = Enforced {
        names: any(1, &[2]),
        ..primary.enforced()
    };
    for _ in 0..5 {
        let start = Instant::now();
        let on = primary.server.turn_waiting_on(&names, LIMIT).await.unwrap();
        println!("turn_waiting_on: {:?}", start.elapsed());
        assert!(is_confirmed(&on), "{on:?}");
        let start = Instant::now();
        let again = primary.server.confirm_names(&names, LIMIT).await.unwrap();
        println!("confirm_names: {:?}", start.elapsed());
        assert!(is_confirmed(&again), "{again:?}");
        let seen = primary.server.observe(LIMIT).await.unwrap();
        assert_eq!(seen.names.value, "ANY 1 (pgautofailover_standby_2)");
        assert!(seen.names.is_ours(), "{:?}", seen.names);
        assert_eq!(seen.senders[0].sync_state, "quorum");
        let start = Instant::now();
        let off = primary
            .server
            .load_empty_names(&names, LIMIT)
            .await
            .unwrap();
        println!("load_empty_names: {:?}", start.elapsed());
        assert!(is_confirmed(&off), "{off:?}");
    }
}

#[tokio::test]
async fn names_that_nobody_answers_to_are_not_confirmed_and_the_empty_value_frees_commits() {
    let Some(primary) = Cluster::primary().await else {
        return;
    };
    let _standby = Cluster::standby_of(&primary, 2).await;
    let names = Enforced {
        names: any(1, &[3]),
        ..primary.enforced()
    };
    let deadline = Duration::from_secs(4);
    let on = primary
        .server
        .turn_waiting_on(&names, deadline)
        .await
        .unwrap();
    assert_eq!(
        on,
        Confirmation::NotYet(NotYet::Quorum {
            flushed: 0,
            needed: 1
        })
    );
    let client = primary.client().await;
    let commit = tokio::spawn(async move { client.batch("CREATE TABLE t (i int)", LIMIT).await });
    until("the commit waits", async || {
        primary.ask("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query LIKE 'CREATE%'").await == "1"
    })
    .await;
    let start = Instant::now();
    primary
        .server
        .load_empty_names(&names, LIMIT)
        .await
        .unwrap();
    commit.await.unwrap().unwrap();
    println!("a waiting commit is free after {:?}", start.elapsed());
}

#[tokio::test]
async fn a_frozen_standby_holds_the_confirmation_until_its_walsender_is_ended() {
    let Some(primary) = Cluster::primary().await else {
        return;
    };
    let _second = Cluster::standby_of(&primary, 2).await;
    let third = Cluster::standby_of(&primary, 3).await;
    let both = Enforced {
        names: any(1, &[2, 3]),
        ..primary.enforced()
    };
    assert!(is_confirmed(
        &primary.server.turn_waiting_on(&both, LIMIT).await.unwrap()
    ));
    third.signal_all(Signal::SIGSTOP);
    let one = Enforced {
        names: any(1, &[2]),
        ..primary.enforced()
    };
    let held = primary
        .server
        .confirm_names(&one, Duration::from_secs(3))
        .await
        .unwrap();
    let name = "pgautofailover_standby_3";
    assert_eq!(
        held,
        Confirmation::NotYet(NotYet::Standbys(vec![name.into()]))
    );
    let start = Instant::now();
    assert_eq!(primary.server.end_walsender(name, LIMIT).await.unwrap(), 1);
    println!("end_walsender: {:?}", start.elapsed());
    let confirmed = primary.server.confirm_names(&one, LIMIT).await.unwrap();
    assert!(is_confirmed(&confirmed), "{confirmed:?}");
    third.signal_all(Signal::SIGCONT);
}

#[tokio::test]
async fn an_override_is_named_and_never_confirmed_until_it_is_reset() {
    let Some(primary) = Cluster::primary().await else {
        return;
    };
    let _standby = Cluster::standby_of(&primary, 2).await;
    let client = primary.client().await;
    let sql = "ALTER SYSTEM SET synchronous_standby_names = 'mine'";
    client.batch(sql, LIMIT).await.unwrap();
    let names = Enforced {
        names: any(1, &[2]),
        ..primary.enforced()
    };
    let outcome = primary.server.confirm_names(&names, LIMIT).await.unwrap();
    let Confirmation::Overridden {
        setting,
        value,
        place,
    } = outcome
    else {
        panic!("{outcome:?}");
    };
    assert_eq!(
        (setting.as_str(), value.as_str()),
        ("synchronous_standby_names", "mine")
    );
    assert!(place.ends_with("postgresql.auto.conf"), "{place}");
    let overrides = primary.server.overrides(LIMIT).await.unwrap();
    assert_eq!(overrides.len(), 1, "{overrides:?}");
    let reset = primary.server.reset_auto_entries(LIMIT).await.unwrap();
    assert_eq!(reset, ["synchronous_standby_names"]);
    assert!(is_confirmed(
        &primary.server.confirm_names(&names, LIMIT).await.unwrap()
    ));
    assert!(primary.server.overrides(LIMIT).await.unwrap().is_empty());
}

#[tokio::test]
async fn two_walsenders_of_one_name_are_not_confirmed() {
    let Some(primary) = Cluster::primary().await else {
        return;
    };
    let _standby = Cluster::standby_of(&primary, 2).await;
    let mut second = Cluster::standby_of(&primary, 3).await;
    second.stop("fast");
    // Its own slot, and the other one's name: what a user's edit can do.
    let conf = second.pgdata.join("postgresql-auto-failover-enforced.conf");
    let text = std::fs::read_to_string(&conf).unwrap();
    std::fs::write(
        &conf,
        text.replace(
            "application_name=pgautofailover_standby_3",
            "application_name=pgautofailover_standby_2",
        ),
    )
    .unwrap();
    second.start().await;
    until("both stream", async || {
        primary.server.observe(LIMIT).await.unwrap().senders.len() == 2
    })
    .await;
    let names = Enforced {
        names: any(1, &[2]),
        ..primary.enforced()
    };
    let outcome = primary.server.confirm_names(&names, LIMIT).await.unwrap();
    assert_eq!(
        outcome,
        Confirmation::DuplicateName("pgautofailover_standby_2".into())
    );
}

#[tokio::test]
async fn a_configuration_that_does_not_parse_is_named() {
    let Some(primary) = Cluster::primary().await else {
        return;
    };
    let conf = primary.pgdata.join("postgresql.conf");
    let text = std::fs::read_to_string(&conf).unwrap();
    std::fs::write(&conf, text.replacen("\n", "\nwork_mem = = nonsense\n", 1)).unwrap();
    let names = Enforced {
        names: StandbyNames::Nobody,
        ..primary.enforced()
    };
    let error = primary
        .server
        .load(&names, Duration::from_secs(5))
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("does not load its configuration"),
        "{error}"
    );
}
