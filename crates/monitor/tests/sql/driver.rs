//! The extended protocol: by hand as libpq speaks it, and by tokio-postgres.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_postgres::types::Type;

use super::support::{Server, message, raw_session, start};

type Rows = Vec<Vec<Option<String>>>;

/// `PQexecParams` with text parameters and results: unnamed statement and portal. An error is
/// (SQLSTATE, message).
pub(crate) async fn exec_params(
    server: &Server,
    query: &str,
    parameters: &[(u32, Option<&str>)],
) -> Result<Rows, (String, String)> {
    let mut stream = raw_session(server, "libpq").await;
    let count = u16::try_from(parameters.len()).unwrap().to_be_bytes();
    let mut parse = vec![0];
    parse.extend_from_slice(query.as_bytes());
    parse.push(0);
    parse.extend_from_slice(&count);
    let mut bind = vec![0, 0, 0, 0];
    bind.extend_from_slice(&count);
    for (oid, value) in parameters {
        parse.extend_from_slice(&oid.to_be_bytes());
        match value {
            None => bind.extend_from_slice(&(-1i32).to_be_bytes()),
            Some(value) => {
                bind.extend_from_slice(&u32::try_from(value.len()).unwrap().to_be_bytes());
                bind.extend_from_slice(value.as_bytes());
            }
        }
    }
    bind.extend_from_slice(&[0, 0]);
    let mut packet = message(b'P', &parse);
    packet.extend(message(b'B', &bind));
    packet.extend(message(b'D', b"P\0"));
    packet.extend(message(b'E', &[0, 0, 0, 0, 0]));
    packet.extend(message(b'S', &[]));
    stream.write_all(&packet).await.unwrap();
    answer(&mut stream).await
}

async fn answer(stream: &mut TcpStream) -> Result<Rows, (String, String)> {
    let mut rows = Rows::new();
    let mut error = None;
    loop {
        let kind = stream.read_u8().await.unwrap();
        let length = stream.read_u32().await.unwrap();
        let mut body = vec![0; length as usize - 4];
        stream.read_exact(&mut body).await.unwrap();
        match kind {
            b'D' => rows.push(data_row(&body)),
            b'E' => error = Some((field(&body, b'C'), field(&body, b'M'))),
            b'Z' => break,
            _ => {}
        }
    }
    error.map_or(Ok(rows), Err)
}

fn data_row(body: &[u8]) -> Vec<Option<String>> {
    let mut rest = &body[2..];
    let mut row = Vec::new();
    while !rest.is_empty() {
        let length = i32::from_be_bytes(rest[..4].try_into().unwrap());
        rest = &rest[4..];
        row.push(usize::try_from(length).ok().map(|length| {
            let value = String::from_utf8(rest[..length].to_vec()).unwrap();
            rest = &rest[length..];
            value
        }));
    }
    row
}

fn field(body: &[u8], wanted: u8) -> String {
    body.split(|byte| *byte == 0)
        .find(|field| field.first() == Some(&wanted))
        .map(|field| String::from_utf8_lossy(&field[1..]).into_owned())
        .unwrap_or_default()
}

#[tokio::test]
async fn drivers_that_describe_first_get_types_and_binary_values() {
    let server = start().await;
    let (client, _) = server.connect().await;
    let statement = client
        .prepare("select * from pgautofailover.get_nodes($1, $2) where node_id > $3")
        .await
        .unwrap();
    assert_eq!(statement.params(), [Type::TEXT, Type::INT4, Type::INT8]);
    let types: Vec<Type> = statement
        .columns()
        .iter()
        .map(|column| column.type_().clone())
        .collect();
    assert_eq!(
        types,
        [
            Type::INT8,
            Type::TEXT,
            Type::TEXT,
            Type::INT4,
            Type::PG_LSN,
            Type::BOOL
        ]
    );
    let rows = client
        .query(&statement, &[&"default", &0i32, &1i64])
        .await
        .unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].get::<_, i64>(0), 2);
    assert_eq!(rows[0].get::<_, &str>(1), "node_2");
    assert_eq!(rows[0].get::<_, i32>(3), 5432);
    assert!(!rows[0].get::<_, bool>(5));
    let lsn: tokio_postgres::types::PgLsn = rows[0].get(4);
    assert_eq!(u64::from(lsn), 0x16_B374_D848);
    let row = client
        .query_one("select reporttime from pgautofailover.node limit 1", &[])
        .await
        .unwrap();
    let time: std::time::SystemTime = row.get(0);
    let since = time.duration_since(std::time::UNIX_EPOCH).unwrap();
    assert_eq!(since.as_micros(), 1_767_323_045_250_000);
}

#[tokio::test]
async fn prepared_statements_and_portals_have_their_life() {
    let server = start().await;
    let (mut client, _) = server.connect().await;
    let transaction = client.transaction().await.unwrap();
    let statement = transaction
        .prepare("select oid::int8 from pg_proc order by 1")
        .await
        .unwrap();
    let portal = transaction.bind(&statement, &[]).await.unwrap();
    let first = transaction.query_portal(&portal, 3).await.unwrap();
    let second = transaction.query_portal(&portal, 3).await.unwrap();
    assert_eq!((first.len(), second.len()), (3, 3));
    assert!(first[2].get::<_, i64>(0) < second[0].get::<_, i64>(0));
    let rest = transaction.query_portal(&portal, 0).await.unwrap();
    assert!(rest.len() > 10);
    transaction.commit().await.unwrap();
    let error = client
        .query_one("select $1::int4 + 1", &[&"x"])
        .await
        .unwrap_err();
    assert!(error.to_string().contains("serializ"), "{error}");
    client
        .batch_execute("deallocate all; discard all")
        .await
        .unwrap();
    let many = (0..80).map(|number| format!("select {number}"));
    let mut kept = Vec::new();
    let mut refused = None;
    for query in many {
        match client.prepare(&query).await {
            Ok(statement) => kept.push(statement),
            Err(error) => refused = Some(error),
        }
    }
    assert_eq!(refused.unwrap().code().unwrap().code(), "54000");
    assert!(kept.len() >= 64);
}

#[tokio::test]
async fn errors_in_a_batch_skip_to_sync() {
    let server = start().await;
    let mut stream = raw_session(&server, "batch").await;
    let mut packet = message(b'P', b"\0selec 1\0\0\0");
    packet.extend(message(b'B', b"\0\0\0\0\0\0\0\0"));
    packet.extend(message(b'E', &[0, 0, 0, 0, 0]));
    packet.extend(message(b'S', &[]));
    stream.write_all(&packet).await.unwrap();
    assert_eq!(answer(&mut stream).await.unwrap_err().0, "42601");
    for (packet, code) in [
        (message(b'B', b"\0nope\0\0\0\0\0\0\0"), "26000"),
        (message(b'E', b"nope\0\0\0\0\0"), "34000"),
        (message(b'D', b"Snope\0"), "26000"),
        (message(b'D', b"Pnope\0"), "34000"),
        (message(b'P', b"\0select 1; select 2\0\0\0"), "42601"),
        (message(b'P', b"\0select $1\0\0\x01\0\0\xff\xff"), "42704"),
    ] {
        stream.write_all(&packet).await.unwrap();
        stream.write_all(&message(b'S', &[])).await.unwrap();
        assert_eq!(answer(&mut stream).await.unwrap_err().0, code);
    }
    stream.write_all(&message(b'Q', b"\0")).await.unwrap();
    assert_eq!(answer(&mut stream).await.unwrap(), Rows::new());
}

#[tokio::test]
async fn two_hundred_sessions_work_at_once() {
    let server = start().await;
    let mut clients = Vec::new();
    for _ in 0..200 {
        clients.push(server.connect().await);
    }
    let mut work = tokio::task::JoinSet::new();
    for (client, receiver) in clients {
        work.spawn(async move {
            for _ in 0..3 {
                let row = client
                    .query_one("select count(*) from pgautofailover.node", &[])
                    .await;
                assert_eq!(row.unwrap().get::<_, i64>(0), 2);
                let text = "{\"a\":1}".to_owned();
                let row = client
                    .query_one("select pgautofailover.keeper_report($1)", &[&text])
                    .await;
                assert_eq!(row.unwrap().get::<_, String>(0), text);
            }
            drop(receiver);
        });
    }
    while let Some(result) = work.join_next().await {
        result.unwrap();
    }
    assert_eq!(server.fake.calls().len(), 600);
}
