//! What one client may cost the monitor. Every limit ends in a clear error or a closed connection,
//! never in a panic or in unbounded memory.

use std::time::Duration;

/// Limits of the endpoint. All are enforced per connection unless they say otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest message before authentication, bytes. Default 10 000: Postgres'
    /// `MAX_STARTUP_PACKET_LENGTH`.
    pub message_before_auth: usize,
    /// Largest message after authentication, bytes. Default 1 MiB: a report is a few kB; chosen.
    pub message_after_auth: usize,
    /// Connections at once, all clients together. Default 12 000; one more gets 53300. Chosen:
    /// 1000 nodes with several sessions each.
    pub connections: usize,
    /// Connections that are not authenticated yet, all clients together. Default 512; one more
    /// gets 53300. Chosen.
    pub unauthenticated_connections: usize,
    /// Time from accept to the end of authentication. Default 10 s; Postgres'
    /// `authentication_timeout` is 60 s, which is long for a port that anybody can reach.
    pub authentication_time: Duration,
    /// Time for the rest of a message whose beginning has come. Default 30 s; chosen.
    pub message_time: Duration,
    /// Silence on a TCP connection after which the kernel asks whether the other side is still there.
    /// Default 30 s; chosen. A keeper is never silent for that long, and that its host is gone is
    /// noticed by its silence: this gives back what the connection holds.
    pub keepalive_idle: Duration,
    /// Time between two such questions. Default 10 s; chosen.
    pub keepalive_interval: Duration,
    /// Questions without an answer after which the connection counts as reset. Default 3; chosen:
    /// with the others, a minute after the last word.
    pub keepalive_probes: u32,
    /// Time that the client may leave an answer unread. Default 30 s; chosen.
    pub send_time: Duration,
    /// Time of one statement, reads and calls. Default 30 s; chosen: no client of the API has a
    /// read timeout of its own.
    pub statement_time: Duration,
    /// Time of the reading part of a statement. Default 5 s; chosen: a join of all tables takes
    /// milliseconds.
    pub read_time: Duration,
    /// Time that a transaction may stay open between statements. Default 60 s; chosen.
    pub idle_in_transaction_time: Duration,
    /// Rows of one result. Default 100 000; chosen.
    pub result_rows: usize,
    /// Bytes of one result. Default 16 MiB; chosen: all nodes of a thousand are 1 MiB.
    pub result_bytes: usize,
    /// Rows of `pgautofailover.event` that one statement sees, the newest ones. Default 10 000;
    /// chosen.
    pub event_rows: u32,
    /// Named prepared statements of a session. Default 64; chosen.
    pub named_statements: usize,
    /// Bytes of text of all prepared statements of a session. Default 256 KiB; chosen.
    pub prepared_bytes: usize,
    /// Named portals of a session, each of which may hold a result. Default 8; chosen.
    pub named_portals: usize,
    /// Notifications that wait for a client. Default 64; one more drops the session. Chosen: a
    /// failover makes some ten.
    pub push_queue: usize,
    /// Read-only statements that run at once, all clients together. Default 2: they share the
    /// machine with the deciding half.
    pub concurrent_reads: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            message_before_auth: 10_000,
            message_after_auth: 1024 * 1024,
            connections: 12_000,
            unauthenticated_connections: 512,
            authentication_time: Duration::from_secs(10),
            message_time: Duration::from_secs(30),
            keepalive_idle: Duration::from_secs(30),
            keepalive_interval: Duration::from_secs(10),
            keepalive_probes: 3,
            send_time: Duration::from_secs(30),
            statement_time: Duration::from_secs(30),
            read_time: Duration::from_secs(5),
            idle_in_transaction_time: Duration::from_secs(60),
            result_rows: 100_000,
            result_bytes: 16 * 1024 * 1024,
            event_rows: 10_000,
            named_statements: 64,
            prepared_bytes: 256 * 1024,
            named_portals: 8,
            push_queue: 64,
            concurrent_reads: 2,
        }
    }
}
