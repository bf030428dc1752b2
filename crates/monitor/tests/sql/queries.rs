//! Read-only SQL through psql.

use super::support::start;

#[tokio::test]
async fn tables_are_readable_with_types_and_names_of_postgres() {
    let server = start().await;
    for (query, expected) in [
        (
            "select nodename, reportedlsn, replicationquorum from pgautofailover.node order by 1",
            "node_1|16/B374D848|t\nnode_2|16/B374D848|t",
        ),
        ("select count(*) from pgautofailover.node", "2"),
        (
            "select nodeid, reporttime from pgautofailover.node where nodename = 'node_2'",
            "2|2026-01-02 03:04:05.25+00",
        ),
        (
            "table pgautofailover.formation",
            "default|pgsql|postgres|t|1\nother|citus|postgres|t|1",
        ),
        ("select 1 = 1, 1 > 2, null::bool", "t|f|"),
        ("select 'a' || 1 || true", "a1true"),
        (
            "select nodeid from pgautofailover.node order by nodeid desc limit 1",
            "2",
        ),
        (
            "select bool_and(nodeid > 0), string_agg(nodename, ',' order by nodeid desc), max(nodeid) from pgautofailover.node",
            "t|node_2,node_1|2",
        ),
        (
            "select reportedstate, count(*) from pgautofailover.node group by 1 order by 1",
            "primary|1\nsecondary|1",
        ),
        (
            "with p as (select * from pgautofailover.node where goalstate = 'primary') select nodename from p",
            "node_1",
        ),
        (
            "select nodename from pgautofailover.node n where exists (select 1 from pgautofailover.formation f where f.formationid = n.formationid) and nodename ~ '2$'",
            "node_2",
        ),
        (
            "select n.nodename, f.kind from pgautofailover.node n join pgautofailover.formation f using (formationid) where n.nodeid in (1, 7)",
            "node_1|pgsql",
        ),
        (
            "select case nodeid when 1 then 'one' else 'more' end from pgautofailover.node order by nodeid",
            "one\nmore",
        ),
        (
            "select '16/B374D848'::pg_lsn - reportedlsn from pgautofailover.node limit 1",
            "0",
        ),
        (
            "select nodename from pgautofailover.node where reportedlsn > '16/0' and reporttime < now() - interval '1 day' order by nodename",
            "node_1\nnode_2",
        ),
        (
            "select round(extract(epoch from reporttime)) from pgautofailover.node limit 1",
            "1767323045.000000",
        ),
        (
            "select coalesce(sysidentifier, 0), nullif(health, 1) from pgautofailover.node limit 1",
            "7000000000000000000|",
        ),
        ("select 7 / 2, 7 % 2, -7 + 2 * 3", "3|1|-1"),
        (
            "select 'it''s', E'tab\\t', $$dollar$1$$",
            "it's|tab\t|dollar$1",
        ),
        (
            "select lower('ABC'), upper('abc'), length('abc'), 'abc' like 'A%', 'abc' ilike 'A%'",
            "abc|ABC|3|f|t",
        ),
        ("select greatest(1, null, 3), least(2, 1)", "3|1"),
        ("values (1, 'a'), (2, 'b') order by 1 desc", "2|b\n1|a"),
        ("select 1 union all select 2 union select 2", "1\n2"),
        (
            "select a.attname from pg_attribute a where a.attrelid = 'pgautofailover.formation'::regclass and attnum = 1",
            "formationid",
        ),
        (
            "select count(*) filter (where nodeid > 1), sum(nodeport), min(nodename) from pgautofailover.node",
            "1|10864|node_1",
        ),
        (
            "select to_char(eventtime, 'YYYY-MM-DD HH24:MI:SS') from pgautofailover.event order by eventid desc limit 1",
            "2026-01-02 03:04:05",
        ),
        ("select count(*) from pgautofailover.event", "20"),
        (
            "select current_user, current_database(), pg_is_in_recovery()",
            "autoctl_node|pg_auto_failover|f",
        ),
    ] {
        assert_eq!(server.one(query).await, expected, "{query}");
    }
}

#[tokio::test]
async fn unnamed_columns_are_called_as_postgres_calls_them() {
    let server = start().await;
    let query = "select 1, count(*), nodeid::text, extract(epoch from now()), now() is null, \
                 case when true then 1 end, 'x'::name from pgautofailover.node where nodeid = 1 \
                 group by nodeid";
    let args = ["-A", "-c", query];
    let printed = server.psql_with(&server.uri(""), &args, &[]).await;
    assert!(
        printed
            .out
            .starts_with("?column?|count|nodeid|extract|?column?|case|name\n"),
        "{}{}",
        printed.out,
        printed.err
    );
}

#[tokio::test]
async fn what_is_wrong_or_unknown_is_refused_with_a_sqlstate_and_a_hint() {
    let server = start().await;
    for (query, code) in [
        ("selec 1", "42601"),
        ("select nope from pgautofailover.node", "42703"),
        ("select * from pgautofailover.nope", "42P01"),
        ("select * from node", "42P01"),
        ("select * from elsewhere.node", "3F000"),
        ("select * from pgautofailover.nope()", "42883"),
        ("select nope()", "42883"),
        ("select nodeid = 'x' from pgautofailover.node", "22P02"),
        ("select nodename = 1 from pgautofailover.node", "42883"),
        (
            "select nodename from pgautofailover.node where nodeid",
            "42804",
        ),
        (
            "select formationid from pgautofailover.node, pgautofailover.formation",
            "42702",
        ),
        (
            "select nodename, count(*) from pgautofailover.node",
            "42803",
        ),
        (
            "select 1 from pgautofailover.node where count(*) > 1",
            "42803",
        ),
        ("select 1 / 0", "22012"),
        ("select $1", "42P02"),
        (
            "insert into pgautofailover.node (nodeid) values (1)",
            "42501",
        ),
        ("update pgautofailover.node set nodeid = 3", "42501"),
        ("delete from pgautofailover.node", "42501"),
        ("truncate pgautofailover.node", "42501"),
        ("create table t (a int)", "42501"),
        ("drop table pgautofailover.node", "42501"),
        ("copy pgautofailover.node to stdout", "42501"),
        ("notify state", "42501"),
        ("set pgautofailover.heartbeat_interval = 1", "42501"),
        ("set nonsense = 1", "42704"),
        ("show nonsense", "42704"),
        ("listen something", "0A000"),
        (
            "select row_number() over () from pgautofailover.node",
            "0A000",
        ),
        ("with recursive r as (select 1) select * from r", "0A000"),
        (
            "select distinct on (nodeid) * from pgautofailover.node",
            "0A000",
        ),
        ("select * from pgautofailover.node for update", "0A000"),
        ("savepoint a", "0A000"),
        ("select 1::nonsense", "42704"),
        ("select * from pgautofailover.node order by 99", "42P10"),
        ("select 1 union select 'x', 2", "42601"),
        ("select get_nodes()", "42883"),
        ("select pgautofailover.get_nodes()", "0A000"),
        ("select 99999999999999999999::int8", "22003"),
        ("create user x", "42501"),
        ("alter user autoctl_node superuser", "42501"),
        ("alter user postgres password 'x'", "42501"),
        ("alter system set x = 1", "42501"),
    ] {
        let error = server.error(query).await;
        assert!(
            error.starts_with(&format!("ERROR:  {code}: ")),
            "{query}: {error}"
        );
    }
}

#[tokio::test]
async fn statements_are_limited_in_depth_length_and_time() {
    let server = start().await;
    let (client, _) = server.connect().await;
    let parentheses = format!("select {}1{}", "(".repeat(400), ")".repeat(400));
    let chain = format!("select 1{}", "+1".repeat(1900));
    let tokens = format!("select 1{}", "+1".repeat(9000));
    let long = format!("select '{}'", "x".repeat(100_000));
    for (query, code) in [
        (&parentheses, "54001"),
        (&chain, "54001"),
        (&tokens, "54001"),
        (&long, "54000"),
    ] {
        let error = client.simple_query(query).await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), code, "{error}");
    }
    let endless = "select count(*) from pg_attribute a, pg_attribute b, pg_attribute c, \
                   pg_attribute d, pg_attribute e, pg_attribute f";
    let error = client.simple_query(endless).await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "57014", "{error}");
    let large = "select a.attname || b.attname from pg_attribute a, pg_attribute b, \
                 pg_attribute c, pg_attribute d";
    let error = client.simple_query(large).await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "54000", "{error}");
    assert_eq!(
        client
            .query_one("select 1", &[])
            .await
            .unwrap()
            .get::<_, i32>(0),
        1
    );
}

#[tokio::test]
async fn several_statements_in_one_text_run_until_the_first_error() {
    let server = start().await;
    let printed = server
        .psql("select 1; select 2; select 1/0; select 3")
        .await;
    assert_eq!(printed.out, "1\n2\n");
    assert!(printed.err.contains("division by zero"));
    assert_eq!(
        server
            .one("begin; select 1; commit; show server_version_num")
            .await,
        "BEGIN\n1\nCOMMIT\n150000"
    );
    let all = server.one("show all").await;
    assert!(
        all.contains("pgautofailover.heartbeat_interval|500|"),
        "{all}"
    );
    assert_eq!(
        server.one("show pgautofailover.heartbeat_interval").await,
        "500"
    );
    assert_eq!(
        server
            .one("set client_encoding to 'UTF8'; set application_name = 'x'; reset all")
            .await,
        "SET\nSET\nRESET"
    );
}
