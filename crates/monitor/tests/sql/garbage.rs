//! Garbage on the port: a bounded, seeded fuzz. The server must answer errors or close, and go on.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::support::{Server, message, start, startup};

/// Splitmix64: the same cases each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        let count = self.below(most);
        (0..count).map(|_| self.next().to_be_bytes()[0]).collect()
    }
}

/// Changes some bytes, cuts or doubles a part.
fn spoil(random: &mut Random, mut packet: Vec<u8>) -> Vec<u8> {
    for _ in 0..random.below(4) {
        if packet.is_empty() {
            break;
        }
        let at = random.below(packet.len());
        match random.below(4) {
            0 => packet[at] = random.next().to_be_bytes()[0],
            1 => packet.truncate(at),
            2 => packet.insert(at, 0),
            _ => {
                let tail = packet[at..].to_vec();
                packet.extend(tail);
            }
        }
    }
    packet
}

fn hello() -> Vec<u8> {
    startup(&[("user", "autoctl_node"), ("database", "pg_auto_failover")])
}

fn some_message(random: &mut Random) -> Vec<u8> {
    const TEXTS: &[&str] = &[
        "select * from pgautofailover.get_nodes($1, $2)",
        "select $1::int4 + 1",
        "listen state",
        "begin",
        "select 1",
        "alter user autoctl_node password '",
        "select '\\",
        "select (((((1",
        "/* select",
        "select $99999",
        ";;;",
    ];
    let text = TEXTS[random.below(TEXTS.len())].as_bytes();
    let mut body = Vec::new();
    let kind = b"QPBDECSHXpFdcfZ\0\xff"[random.below(17)];
    match kind {
        b'Q' => {
            body.extend_from_slice(text);
            body.push(0);
        }
        b'P' => {
            body.push(0);
            body.extend_from_slice(text);
            body.push(0);
            let types = u16::try_from(random.below(4)).unwrap();
            body.extend_from_slice(&types.to_be_bytes());
            for _ in 0..types {
                body.extend_from_slice(&[0, 0, 0, [16, 20, 23, 25][random.below(4)]]);
            }
        }
        b'B' => {
            body.extend_from_slice(&[0, 0, 0, 0, 0, 2]);
            for _ in 0..2 {
                let value = random.bytes(9);
                body.extend_from_slice(&u32::try_from(value.len()).unwrap().to_be_bytes());
                body.extend(value);
            }
            body.extend_from_slice(&[0, 0]);
        }
        b'D' | b'C' => body.extend_from_slice(b"S\0"),
        b'E' => body.extend_from_slice(&[0, 0, 0, 0, 0]),
        _ => body = random.bytes(20),
    }
    message(kind, &body)
}

/// Sends the bytes, half-closes, and waits until the server has closed.
async fn deliver(server: &Server, bytes: &[u8]) {
    let mut stream = TcpStream::connect(("127.0.0.1", server.port))
        .await
        .unwrap();
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    let mut sink = [0u8; 8192];
    let mut total = 0;
    while let Ok(count) = stream.read(&mut sink).await {
        total += count;
        assert!(total < 4 * 1024 * 1024, "an endless answer");
        if count == 0 {
            break;
        }
    }
}

async fn fuzz(cases: usize, seed: u64, make: fn(&mut Random) -> Vec<u8>) {
    let server = start().await;
    let mut random = Random(seed);
    for case in 0..cases {
        let bytes = make(&mut random);
        let delivery = deliver(&server, &bytes);
        let outcome = tokio::time::timeout(std::time::Duration::from_secs(20), delivery).await;
        assert!(
            outcome.is_ok(),
            "case {case} of seed {seed} hangs: {bytes:?}"
        );
    }
    assert_eq!(server.one("select 1").await, "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_as_the_first_packet_does_no_harm() {
    fuzz(8000, 1, |random| match random.below(3) {
        0 => random.bytes(64),
        1 => spoil(random, hello()),
        _ => {
            let mut request = 8_u32.to_be_bytes().to_vec();
            let code = [80_877_102_u32, 80_877_103, 80_877_104, 196_608, 131_072][random.below(5)];
            request.extend_from_slice(&code.to_be_bytes());
            request.extend(spoil(random, hello()));
            request
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_after_authentication_does_no_harm() {
    fuzz(4000, 2, |random| {
        let mut packet = hello();
        for _ in 0..=random.below(6) {
            let next = some_message(random);
            packet.extend(if random.below(2) == 0 {
                spoil(random, next)
            } else {
                next
            });
        }
        packet
    })
    .await;
}

/// Words that make sense beside each other now and then.
const WORDS: &[&str] = &[
    "select",
    "from",
    "where",
    "pgautofailover.node",
    "pgautofailover.event",
    "n",
    "as",
    "a",
    "b",
    "nodeid",
    "nodename",
    "*",
    ",",
    "(",
    ")",
    "=",
    "<",
    "+",
    "-",
    "||",
    "~",
    "'x'",
    "'1'",
    "1",
    "0",
    "null",
    "true",
    "not",
    "and",
    "or",
    "count",
    "sum",
    "max",
    "jsonb_agg",
    "row_to_json",
    "jsonb_pretty",
    "coalesce",
    "group by",
    "order by",
    "having",
    "limit",
    "offset",
    "union",
    "union all",
    "with w as (",
    "w",
    "join",
    "left join",
    "on",
    "using (formationid)",
    "case",
    "when",
    "then",
    "else",
    "end",
    "::text",
    "::int",
    "::pg_lsn",
    "::regclass",
    "in",
    "exists",
    "between",
    "is null",
    "like",
    "distinct",
    "filter (where",
    "values",
    "now()",
    "interval '1 s'",
    "extract(epoch from",
    "pgautofailover.get_nodes()",
    "pgautofailover.formation_uri()",
    "generate_series(1, 3)",
    "pg_class",
    "oid",
    "array(",
    "any(",
    "desc",
    "nulls first",
    ".",
    ";",
    "table",
    "lateral",
    "cross join",
    "string_agg(nodename, ',')",
    "health",
    "reporttime",
    "$1",
];

/// An expression of a few words, sensible or not.
fn phrase(random: &mut Random, most: usize) -> String {
    let count = 1 + random.below(most);
    let words: Vec<&str> = (0..count)
        .map(|_| WORDS[random.below(WORDS.len())])
        .collect();
    words.join(" ")
}

fn operand(random: &mut Random) -> &'static str {
    const OPERANDS: &[&str] = &[
        "nodeid",
        "nodename",
        "health",
        "reportedlsn",
        "reporttime",
        "replicationquorum",
        "1",
        "'1'",
        "'x'",
        "null",
        "now()",
        "true",
        "a.nodeid",
        "count(*)",
        "max(nodeid)",
        "coalesce(nodeid, 1)",
        "(select 1)",
        "row_to_json(a)",
        "nodename::text",
        "'0/1'::pg_lsn",
        "extract(epoch from reporttime)",
        "array(select nodename from pgautofailover.node)",
        "case when health = 1 then nodename end",
        "jsonb_pretty(jsonb_agg(row_to_json(a)))",
        "greatest(nodeid, 2)",
        "string_agg(nodename, ',')",
        "pgautofailover.formation_uri()",
    ];
    OPERANDS[random.below(OPERANDS.len())]
}

/// Half of the statements have the shape of a SELECT, half have none.
fn salad(random: &mut Random) -> String {
    if random.below(2) == 0 {
        return format!("select {}", phrase(random, 12));
    }
    let operator = [
        "=",
        "<",
        "+",
        "||",
        "and",
        "~",
        "is distinct from",
        "in",
        "-",
        "/",
    ];
    let mut query = format!(
        "select {} {} {}, {} from pgautofailover.node a",
        operand(random),
        operator[random.below(operator.len())],
        operand(random),
        operand(random)
    );
    let tails = [
        "where",
        "group by",
        "order by",
        "join pgautofailover.event b on",
        "having",
        ",",
    ];
    for _ in 0..random.below(3) {
        let tail = tails[random.below(tails.len())];
        query.push_str(&format!(" {tail} {}", operand(random)));
    }
    if random.below(4) == 0 {
        query.push_str(&phrase(random, 3));
    }
    query
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn word_salad_is_answered_and_never_an_internal_error() {
    let server = start().await;
    let (client, _) = server.connect().await;
    let mut random = Random(3);
    let (mut worked, mut refused) = (0, 0);
    for case in 0..8000 {
        let query = salad(&mut random);
        match client.simple_query(&query).await {
            Ok(_) => worked += 1,
            Err(error) => {
                refused += 1;
                let error = error
                    .as_db_error()
                    .unwrap_or_else(|| panic!("case {case}: {query}"));
                assert_ne!(
                    error.code().code(),
                    "XX000",
                    "case {case}: {query}: {error}"
                );
            }
        }
    }
    assert!(
        worked > 100 && refused > 100,
        "{worked} worked, {refused} were refused"
    );
    assert!(server.fake.calls().is_empty());
}

#[tokio::test]
async fn a_message_in_the_smallest_pieces_is_understood() {
    let server = start().await;
    let mut stream = server.raw().await;
    stream.set_nodelay(true).unwrap();
    let mut bytes = hello();
    bytes.extend(message(b'Q', b"select 42\0"));
    bytes.extend(message(b'X', &[]));
    for byte in bytes {
        stream.write_all(&[byte]).await.unwrap();
    }
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(answer.windows(2).any(|pair| pair == b"42"));
}
