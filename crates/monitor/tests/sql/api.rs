//! The query catalogue of the old program's clients, text by text.

use pgaf_monitor::sql::{Call, NodeRef, Question, Transaction};
use tokio_postgres::types::{ToSql, Type};

use super::support::{Server, start};

/// Runs a text with typed text parameters, as libpq's `PQexecParams` does; rows of text.
async fn ask(
    server: &Server,
    query: &str,
    parameters: &[(u32, Option<&str>)],
) -> Result<Vec<Vec<Option<String>>>, (String, String)> {
    super::driver::exec_params(server, query, parameters).await
}

const TEXT: u32 = 25;
const INT4: u32 = 23;
const INT8: u32 = 20;
const BOOL: u32 = 16;
const NAME: u32 = 19;
const LSN: u32 = 3220;

fn text(rows: &[Vec<Option<String>>]) -> String {
    let row = |row: &Vec<Option<String>>| {
        row.iter()
            .map(|value| value.as_deref().unwrap_or("NULL"))
            .collect::<Vec<_>>()
            .join("|")
    };
    rows.iter().map(row).collect::<Vec<_>>().join("\n")
}

async fn expect(server: &Server, query: &str, parameters: &[(u32, Option<&str>)], rows: &str) {
    let answer = ask(server, query, parameters).await;
    assert_eq!(
        answer.map(|rows| text(&rows)),
        Ok(rows.to_owned()),
        "{query}"
    );
}

const NODES: &str = "1|node_1|host1|5432|16/B374D848|t\n2|node_2|host2|5432|16/B374D848|f";

#[tokio::test]
async fn keepers_reads_work_word_by_word() {
    let server = start().await;
    let s = &server;
    let default = (TEXT, Some("default"));
    expect(
        s,
        "SELECT default_version, installed_version  FROM pg_available_extensions WHERE name = $1",
        &[(TEXT, Some("pgautofailover"))],
        "2.2|2.2",
    )
    .await;
    expect(
        s,
        "SELECT * FROM pgautofailover.get_other_nodes($1) ORDER BY node_id",
        &[(INT8, Some("1"))],
        "2|node_2|host2|5432|16/B374D848|f",
    )
    .await;
    expect(s, "SELECT * FROM pgautofailover.get_other_nodes($1, $2::pgautofailover.replication_state) ORDER BY node_id",
        &[(INT8, Some("1")), (TEXT, Some("primary"))], "").await;
    expect(
        s,
        "SELECT * FROM pgautofailover.get_nodes($1, $2) WHERE node_id = $3",
        &[default, (INT4, Some("0")), (INT8, Some("2"))],
        "2|node_2|host2|5432|16/B374D848|f",
    )
    .await;
    expect(
        s,
        "select pgautofailover.synchronous_standby_names($1, $2)",
        &[default, (INT4, Some("0"))],
        "ANY 1 (pgautofailover_standby_2)",
    )
    .await;
    expect(
        s,
        "SELECT * FROM pgautofailover.get_primary($1, $2)",
        &[default, (INT4, Some("0"))],
        "1|node_1|host1|5432",
    )
    .await;
    expect(
        s,
        "SELECT * FROM pgautofailover.get_most_advanced_standby($1, $2)",
        &[default, (INT4, Some("0"))],
        "",
    )
    .await;
    expect(
        s,
        "SELECT * FROM pgautofailover.get_coordinator($1)",
        &[default],
        "",
    )
    .await;
    let error = ask(
        s,
        "SELECT * FROM pgautofailover.get_other_nodes($1)",
        &[(INT8, Some("9"))],
    )
    .await;
    assert_eq!(error.unwrap_err().0, "42704");
    let error = ask(
        s,
        "SELECT * FROM pgautofailover.get_primary($1, $2)",
        &[default, (INT4, Some("9"))],
    )
    .await;
    assert_eq!(error.unwrap_err().0, "XX000");
}

#[tokio::test]
async fn an_empty_group_number_of_get_nodes_means_all_groups() {
    let server = start().await;
    let query = "SELECT * FROM pgautofailover.get_nodes($1, $2) ORDER BY node_id";
    let default = (TEXT, Some("default"));
    for group in [Some(""), None, Some("0")] {
        expect(&server, query, &[default, (INT4, group)], NODES).await;
    }
    expect(
        &server,
        "SELECT * FROM pgautofailover.get_nodes($1) ORDER BY node_id",
        &[default],
        NODES,
    )
    .await;
    let error = ask(&server, query, &[default, (INT4, Some("x"))])
        .await
        .unwrap_err();
    assert_eq!(error.0, "22P02");
}

#[tokio::test]
async fn keepers_writes_become_typed_calls() {
    let server = start().await;
    let query = "SELECT * FROM pgautofailover.node_active($1, $2, $3, \
                 $4::pgautofailover.replication_state, $5, $6, $7, $8)";
    let parameters = [
        (TEXT, Some("default")),
        (INT8, Some("3")),
        (INT4, Some("0")),
        (TEXT, Some("wait_standby")),
        (BOOL, Some("true")),
        (INT4, Some("1")),
        (LSN, Some("0/5")),
        (TEXT, Some("")),
    ];
    expect(&server, query, &parameters, "3|0|wait_standby|50|t").await;
    let query = "SELECT * FROM pgautofailover.register_node($1, $2, $3, $4, $5, $6, $7, $8, \
                 $9::pgautofailover.replication_state, $10, $11, $12, $13)";
    let parameters = [
        (TEXT, Some("default")),
        (TEXT, Some("host3")),
        (INT4, Some("5432")),
        (NAME, Some("postgres")),
        (TEXT, Some("")),
        (INT8, Some("0")),
        (INT8, Some("-1")),
        (INT4, Some("-1")),
        (TEXT, Some("init")),
        (TEXT, Some("standalone")),
        (INT4, Some("50")),
        (BOOL, Some("true")),
        (TEXT, Some("default")),
    ];
    expect(&server, query, &parameters, "3|0|wait_standby|50|t|node_3").await;
    expect(
        &server,
        "SELECT * FROM pgautofailover.set_node_system_identifier($1, $2)",
        &[(INT8, Some("1")), (INT8, Some("7"))],
        "1|node_1|host1|5432",
    )
    .await;
    expect(
        &server,
        "SELECT * FROM pgautofailover.set_group_system_identifier($1, $2)",
        &[(INT8, Some("0")), (INT8, Some("7"))],
        "",
    )
    .await;
    expect(
        &server,
        "SELECT * FROM pgautofailover.update_node_metadata($1, $2, $3, $4)",
        &[
            (INT8, Some("1")),
            (TEXT, Some("n")),
            (TEXT, None),
            (INT4, Some("1")),
        ],
        "t",
    )
    .await;
    let calls = server.fake.calls();
    let Call::NodeActive(active) = &calls[0] else {
        panic!("{calls:?}")
    };
    assert_eq!(
        (active.lsn, active.timeline, active.postgres_is_running),
        (5, 1, true)
    );
    let Call::RegisterNode(register) = &calls[1] else {
        panic!("{calls:?}")
    };
    assert_eq!(
        (register.desired_node_id, register.initial_state.as_str()),
        (-1, "init")
    );
    assert_eq!(
        calls[4],
        Call::UpdateNodeMetadata {
            node_id: 1,
            name: Some("n".into()),
            host: None,
            port: Some(1),
        }
    );
    let bad = [
        (TEXT, Some("default")),
        (INT8, Some("3")),
        (INT4, Some("0")),
        (TEXT, Some("sideways")),
        (BOOL, Some("true")),
        (INT4, Some("1")),
        (LSN, Some("0/5")),
        (TEXT, Some("")),
    ];
    let query = "SELECT * FROM pgautofailover.node_active($1, $2, $3, \
                 $4::pgautofailover.replication_state, $5, $6, $7, $8)";
    assert_eq!(ask(&server, query, &bad).await.unwrap_err().0, "22P02");
}

#[tokio::test]
async fn show_state_joins_the_lags() {
    let server = start().await;
    let query = "  SELECT formation_kind, nodename, nodehost, nodeport,          group_id, node_id,          current_group_state, assigned_group_state,          candidate_priority, replication_quorum,          reported_tli, reported_lsn, health, nodecluster,          healthlag, reportlag    FROM pgautofailover.current_state($1) cs     JOIN (          select nodeid,                  extract(epoch from now() - healthchecktime),                  extract(epoch from now() - reporttime)             from pgautofailover.node          ) as n(nodeid, healthlag, reportlag)         on n.nodeid = cs.node_id ORDER BY group_id, node_id";
    let rows = ask(&server, query, &[(TEXT, Some("default"))])
        .await
        .unwrap();
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0].len(), 16);
    let first: Vec<&str> = rows[0][..14]
        .iter()
        .map(|value| value.as_deref().unwrap())
        .collect();
    assert_eq!(
        first,
        [
            "pgsql",
            "node_1",
            "host1",
            "5432",
            "0",
            "1",
            "primary",
            "primary",
            "50",
            "t",
            "1",
            "16/B374D848",
            "1",
            "default"
        ]
    );
    assert!(rows[0][14].as_deref().unwrap().parse::<f64>().unwrap() > 0.0);
    let query = query.replace("($1)", "($1, $2)");
    let rows = ask(
        &server,
        &query,
        &[(TEXT, Some("default")), (INT4, Some("1"))],
    )
    .await
    .unwrap();
    assert!(rows.is_empty());
}

#[tokio::test]
async fn json_is_laid_out_as_jsonb_pretty_does() {
    let server = start().await;
    let default = (TEXT, Some("default"));
    let rows = ask(&server, "SELECT jsonb_pretty(coalesce(jsonb_agg(row_to_json(state)), '[]')) FROM pgautofailover.current_state($1) as state", &[default]).await.unwrap();
    let json = rows[0][0].as_deref().unwrap();
    assert!(json.starts_with("[\n    {\n        \"health\": 1,\n        \"node_id\": 1,\n        \"group_id\": 0,\n        \"nodehost\": \"host1\",\n"), "{json}");
    assert!(json.contains("\"replication_quorum\": true"), "{json}");
    assert!(json.contains("\"reported_lsn\": \"16/B374D848\""), "{json}");
    expect(&server, "SELECT jsonb_pretty(coalesce(jsonb_agg(row_to_json(state)), '[]'))FROM pgautofailover.current_state($1,$2) as state",
        &[(TEXT, Some("none")), (INT4, Some("0"))], "[\n]").await;
    let rows = ask(&server, "SELECT jsonb_pretty(coalesce(jsonb_agg(row_to_json(event)), '[]')) FROM pgautofailover.last_events($1, count => $2) as event",
        &[default, (INT4, Some("1"))]).await.unwrap();
    let json = rows[0][0].as_deref().unwrap();
    assert!(
        json.contains("\"eventtime\": \"2026-01-02T03:04:05.25002+00:00\""),
        "{json}"
    );
    let error = ask(&server, "SELECT jsonb_pretty(coalesce(jsonb_agg(row_to_json(event)), '[]')) FROM * FROM pgautofailover.last_events($1,$2,$3) as event",
        &[default, (INT4, Some("0")), (INT4, Some("1"))]).await.unwrap_err();
    assert_eq!(error.0, "42601");
    // Two types declared, one parameter used.
    let rows = ask(&server, "SELECT jsonb_pretty(coalesce(jsonb_agg(row_to_json(nodes)), '[]')) FROM pgautofailover.get_other_nodes($1) as nodes",
        &[(INT8, Some("1")), (TEXT, None)]).await.unwrap();
    assert!(
        rows[0][0]
            .as_deref()
            .unwrap()
            .contains("\"node_is_primary\": false")
    );
    let rows = ask(&server, "SELECT jsonb_pretty(coalesce(jsonb_agg(row_to_json(nodes)), '[]'))  FROM pgautofailover.get_nodes($1, $2) as nodes",
        &[default, (INT4, Some(""))]).await.unwrap();
    assert!(
        rows[0][0]
            .as_deref()
            .unwrap()
            .contains("\"node_name\": \"node_2\"")
    );
}

#[tokio::test]
async fn events_come_oldest_first() {
    let server = start().await;
    let default = (TEXT, Some("default"));
    expect(&server, "SELECT eventTime, nodeid, groupid,        reportedstate, goalState, description   FROM pgautofailover.last_events($1, count => $2)",
        &[default, (INT4, Some("2"))],
        "2026-01-02 03:04:05.250019+00|1|0|primary|draining|event 19\n2026-01-02 03:04:05.25002+00|1|0|primary|draining|event 20").await;
    expect(&server, "SELECT eventTime, nodeid, groupid,        reportedstate, goalState, description   FROM pgautofailover.last_events($1,$2,$3)",
        &[default, (INT4, Some("0")), (INT4, Some("1"))],
        "2026-01-02 03:04:05.25002+00|1|0|primary|draining|event 20").await;
    let rows = ask(&server, "SELECT eventId, to_char(eventTime, 'YYYY-MM-DD HH24:MI:SS'),        formationId, nodeid, groupid,        nodename, nodehost, nodeport,        reportedstate, goalState,        reportedrepstate, reportedtli, reportedlsn,        candidatepriority, replicationquorum,        description   FROM pgautofailover.last_events($1, count => $2)",
        &[default, (INT4, Some("1"))]).await.unwrap();
    assert_eq!(rows[0].len(), 16);
    assert_eq!(rows[0][1].as_deref(), Some("2026-01-02 03:04:05"));
    assert_eq!(
        ask(
            &server,
            "select * from pgautofailover.last_events('x', 10)",
            &[]
        )
        .await
        .unwrap_err()
        .0,
        "42725"
    );
    let rows = ask(&server, "select * from pgautofailover.last_events(3)", &[])
        .await
        .unwrap();
    assert_eq!(rows.len(), 3);
}

#[tokio::test]
async fn single_value_reads_work_word_by_word() {
    let server = start().await;
    let s = &server;
    let default = (TEXT, Some("default"));
    expect(
        s,
        "SELECT number_sync_standbys FROM pgautofailover.formation WHERE formationid = $1",
        &[default],
        "1",
    )
    .await;
    expect(
        s,
        "SELECT candidatepriority, replicationquorum FROM pgautofailover.node WHERE nodename = $1",
        &[(TEXT, Some("node_1"))],
        "50|t",
    )
    .await;
    expect(
        s,
        "SELECT count(distinct(groupid)) FROM pgautofailover.node WHERE formationid = $1",
        &[default],
        "1",
    )
    .await;
    expect(
        s,
        "SELECT groupid FROM pgautofailover.node WHERE formationid = $1 and nodename = $2",
        &[default, (TEXT, Some("node_2"))],
        "0",
    )
    .await;
    expect(s, "select count(node.candidatepriority)        filter(where node.candidatepriority > 0)        as failover_candidate_count   from pgautofailover.get_nodes($1, $2) as gn   join pgautofailover.node     on node.nodeid = gn.node_id  where not node_is_primary",
        &[default, (INT4, Some("0"))], "1").await;
}

#[tokio::test]
async fn uris_and_settings_are_printed() {
    let server = start().await;
    let s = &server;
    let uri = "postgres://host1:5432,host2:5432/postgres?target_session_attrs=read-write&sslmode=require&sslrootcert=/ca";
    let three = [
        (TEXT, Some("require")),
        (TEXT, Some("/ca")),
        (TEXT, Some("")),
    ];
    let [mode, ca, crl] = three;
    expect(
        s,
        "SELECT formation_uri FROM pgautofailover.formation_uri($1, $2, $3, $4, $5)",
        &[
            (TEXT, Some("default")),
            (TEXT, Some("default")),
            mode,
            ca,
            crl,
        ],
        uri,
    )
    .await;
    let union = "SELECT 'monitor', 'monitor', $1  UNION ALL SELECT 'formation', formationid, formation_uri   FROM pgautofailover.formation,        pgautofailover.formation_uri(formation.formationid, 'default', $2, $3, $4)  UNION ALL SELECT 'read-replica', nodecluster, formation_uri   FROM pgautofailover.formation        JOIN pgautofailover.node using(formationid),        pgautofailover.formation_uri(formation.formationid, nodecluster, $2, $3, $4)  WHERE node.groupid = 0 and node.nodecluster <> 'default' ";
    let monitor = (TEXT, Some("postgres://m"));
    let expected =
        format!("monitor|monitor|postgres://m\nformation|default|{uri}\nformation|other|NULL");
    expect(s, union, &[monitor, mode, ca, crl], &expected).await;
    let json = format!(
        "WITH formation(type, name, uri) AS ( {union} ) SELECT jsonb_pretty(jsonb_agg(row_to_json(formation))) FROM formation"
    );
    let rows = ask(s, &json, &[monitor, mode, ca, crl]).await.unwrap();
    let printed = rows[0][0].as_deref().unwrap();
    assert!(printed.starts_with("[\n    {\n        \"uri\": \"postgres://m\",\n        \"name\": \"monitor\",\n        \"type\": \"monitor\"\n    },"), "{printed}");
    let settings = "select context, group_id, node_id, nodename, setting, value  from pgautofailover.formation_settings($1) order by case context when 'formation' then 0  when 'primary' then 1  when 'node' then 2 else 3 end,  setting, group_id, node_id";
    expect(s, settings, &[(TEXT, Some("default"))],
        "formation|NULL|NULL|default|number_sync_standbys|1\nprimary|0|1|node_1|synchronous_standby_names|'ANY 1 (pgautofailover_standby_2)'\nnode|0|1|node_1|candidate priority|50\nnode|0|2|node_2|candidate priority|50\nnode|0|1|node_1|replication quorum|true\nnode|0|2|node_2|replication quorum|true").await;
    let json = "with settings as  (   select *     from pgautofailover.formation_settings($1)  ),  f(json) as  (    select jsonb_agg(row_to_json(settings))      from settings     where context = 'formation'  ),  p(json) as  (   select jsonb_agg(row_to_json(settings))     from settings    where context = 'primary'  ),  n(json) as  (    select jsonb_agg(row_to_json(settings))      from settings     where context = 'node'  ) select jsonb_pretty(jsonb_build_object('formation', f.json, 'primary', p.json, 'nodes', n.json))   from f, p, n";
    let rows = ask(s, json, &[(TEXT, Some("other"))]).await.unwrap();
    let printed = rows[0][0].as_deref().unwrap();
    assert!(
        printed
            .starts_with("{\n    \"nodes\": null,\n    \"primary\": null,\n    \"formation\": [\n"),
        "{printed}"
    );
}

#[tokio::test]
async fn operations_become_calls() {
    let server = start().await;
    let s = &server;
    let default = (TEXT, Some("default"));
    let name = (TEXT, Some("node_1"));
    expect(
        s,
        "SELECT pgautofailover.set_node_candidate_priority($1, $2, $3)",
        &[default, name, (INT4, Some("7"))],
        "t",
    )
    .await;
    expect(
        s,
        "SELECT pgautofailover.set_node_replication_quorum($1, $2, $3)",
        &[default, name, (BOOL, Some("false"))],
        "t",
    )
    .await;
    expect(
        s,
        "SELECT pgautofailover.set_formation_number_sync_standbys($1, $2)",
        &[default, (INT4, Some("1"))],
        "t",
    )
    .await;
    expect(
        s,
        "SELECT pgautofailover.perform_failover($1, $2)",
        &[default, (INT4, Some("0"))],
        "",
    )
    .await;
    expect(
        s,
        "SELECT pgautofailover.perform_promotion($1, $2)",
        &[default, name],
        "t",
    )
    .await;
    expect(
        s,
        "SELECT pgautofailover.start_maintenance($1)",
        &[(INT8, Some("1"))],
        "t",
    )
    .await;
    expect(
        s,
        "SELECT pgautofailover.stop_maintenance($1)",
        &[(INT8, Some("1"))],
        "t",
    )
    .await;
    expect(
        s,
        "SELECT * FROM pgautofailover.create_formation($1, $2, $3, $4, $5)",
        &[
            (TEXT, Some("f")),
            (TEXT, Some("pgsql")),
            (TEXT, Some("db")),
            (BOOL, Some("t")),
            (INT4, Some("0")),
        ],
        "f|pgsql|db|t|0",
    )
    .await;
    expect(
        s,
        "SELECT * FROM pgautofailover.drop_formation($1)",
        &[(TEXT, Some("f"))],
        "",
    )
    .await;
    expect(
        s,
        "SELECT * FROM pgautofailover.enable_secondary($1)",
        &[default],
        "t",
    )
    .await;
    expect(
        s,
        "SELECT * FROM pgautofailover.disable_secondary($1)",
        &[default],
        "t",
    )
    .await;
    expect(
        s,
        "select pgautofailover.perform_failover(group_id => 2, allow_data_loss => true)",
        &[],
        "",
    )
    .await;
    expect(s, "select pgautofailover.explain()", &[], "{}").await;
    let calls = server.fake.calls();
    assert_eq!(
        calls[0],
        Call::SetCandidatePriority {
            formation: "default".into(),
            node_name: "node_1".into(),
            priority: 7
        }
    );
    assert_eq!(
        calls[3],
        Call::PerformFailover {
            formation: "default".into(),
            group: 0,
            allow_data_loss: false
        }
    );
    assert_eq!(
        calls[10],
        Call::SetSecondary {
            formation: "default".into(),
            enabled: false
        }
    );
    assert_eq!(
        calls[11],
        Call::PerformFailover {
            formation: "default".into(),
            group: 2,
            allow_data_loss: true
        }
    );
    assert_eq!(
        calls[12],
        Call::Ask(Question::Explain {
            formation: "default".into(),
            group: None
        })
    );
}

#[tokio::test]
async fn nodes_are_dropped_by_name_and_by_address() {
    let server = start().await;
    let by_name = "SELECT nodeid, groupid, pgautofailover.remove_node(nodeid::int, $3)   FROM pgautofailover.node WHERE formationid = $1 and nodename = $2";
    let default = (TEXT, Some("default"));
    expect(
        &server,
        by_name,
        &[default, (TEXT, Some("node_2")), (0, Some("true"))],
        "2|0|t",
    )
    .await;
    expect(
        &server,
        by_name,
        &[default, (TEXT, Some("nobody")), (0, Some("false"))],
        "",
    )
    .await;
    let by_address = "SELECT nodeid, groupid, pgautofailover.remove_node($1, $2, $3)   FROM pgautofailover.node WHERE nodehost = $1 and nodeport = $2";
    expect(
        &server,
        by_address,
        &[
            (TEXT, Some("host1")),
            (INT4, Some("5432")),
            (BOOL, Some("false")),
        ],
        "1|0|t",
    )
    .await;
    assert_eq!(
        server.fake.calls(),
        [
            Call::RemoveNode {
                node: NodeRef::Id(2),
                force: true
            },
            Call::RemoveNode {
                node: NodeRef::Address("host1".into(), 5432),
                force: false
            },
        ]
    );
    let all = "SELECT pgautofailover.remove_node(nodeid) FROM pgautofailover.node";
    assert_eq!(ask(&server, all, &[]).await.unwrap_err().0, "21000");
    assert_eq!(server.fake.calls().len(), 2);
}

#[tokio::test]
async fn a_known_function_with_an_unknown_tail_is_never_half_understood() {
    let server = start().await;
    for query in [
        "select 1, pgautofailover.perform_failover()",
        "select pgautofailover.perform_failover() where false",
        "select pgautofailover.perform_failover() limit 0",
        "select pgautofailover.perform_failover() union select null",
        "select * from pgautofailover.node, pgautofailover.remove_node(1)",
        "select * from pgautofailover.remove_node(1) a join pgautofailover.node on true",
        "with a as (select * from pgautofailover.remove_node(1)) select 1",
        "select * from (select * from pgautofailover.remove_node(1)) a",
        "select (select pgautofailover.remove_node(1))",
        "select coalesce(pgautofailover.remove_node(1), true)",
        "select pgautofailover.remove_node(nodeid) from pgautofailover.node order by 1",
        "select nodeid from pgautofailover.node where pgautofailover.remove_node(nodeid)",
        "select pgautofailover.remove_node(1), pgautofailover.remove_node(2)",
        "select * from pgautofailover.remove_node((select 1))",
        "values (pgautofailover.remove_node(1))",
    ] {
        let error = server.error(query).await;
        assert!(error.starts_with("ERROR:  0A000: "), "{query}: {error}");
    }
    assert!(server.fake.calls().is_empty());
    // A tail that is understood works on the reply.
    assert_eq!(server.one("select node_id from pgautofailover.set_node_system_identifier(1, 7) where node_port > 1").await, "1");
}

#[tokio::test]
async fn errors_and_notices_of_the_backend_reach_the_client() {
    let server = start().await;
    let error = server
        .error("select pgautofailover.perform_failover('refuse')")
        .await;
    assert!(
        error.contains(
            "XX000: cannot fail over\nDETAIL:  Nobody is eligible.\nHINT:  Add a standby."
        ),
        "{error}"
    );
    let printed = server
        .psql("select pgautofailover.set_node_candidate_priority('default', 'n', 0)")
        .await;
    assert_eq!(printed.out, "t\n");
    let fatal = server
        .psql("select pgautofailover.perform_failover('fatal'); select 1")
        .await;
    assert!(
        fatal.err.contains("FATAL:  the monitor gives up"),
        "{}",
        fatal.err
    );
    assert_eq!(fatal.out, "");
    assert!(
        printed
            .err
            .contains("NOTICE:  fewer than two candidates remain"),
        "{}",
        printed.err
    );
}

#[tokio::test]
async fn registration_is_told_its_transaction_and_how_it_ends() {
    let server = start().await;
    let register =
        "select assigned_node_id from pgautofailover.register_node('default','h',1,'postgres')";
    assert_eq!(
        server.one(&format!("begin; {register}; commit")).await,
        "BEGIN\n3\nCOMMIT"
    );
    assert_eq!(server.fake.transactions(), [Transaction::Open]);
    server.fake.wait_for("end commit=true").await;
    assert_eq!(
        server.one(&format!("begin; {register}; rollback")).await,
        "BEGIN\n3\nROLLBACK"
    );
    server.fake.wait_for("end commit=false").await;
    // The client goes away in the middle.
    let before = server.fake.log().len();
    let (client, _) = server.connect().await;
    client
        .batch_execute(&format!("begin; {register}"))
        .await
        .unwrap();
    drop(client);
    for _ in 0..200 {
        if server.fake.log()[before..]
            .iter()
            .any(|line| line == "end commit=false")
        {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("{:?}", server.fake.log());
}

#[tokio::test]
async fn after_an_error_a_transaction_only_ends() {
    let server = start().await;
    let (client, _) = server.connect().await;
    client.batch_execute("begin").await.unwrap();
    assert!(client.batch_execute("select 1/0").await.is_err());
    let error = client.batch_execute("select 1").await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "25P02");
    let none: &[&(dyn ToSql + Sync)] = &[];
    let error = client.query("select 1", none).await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "25P02");
    client.batch_execute("commit").await.unwrap();
    let statement = client
        .prepare_typed("select $1", &[Type::INT8])
        .await
        .unwrap();
    assert_eq!(
        client
            .query_one(&statement, &[&5i64])
            .await
            .unwrap()
            .get::<_, i64>(0),
        5
    );
}
