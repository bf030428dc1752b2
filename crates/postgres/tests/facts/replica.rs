//! The standby's side of the replication protocol, which says to have flushed whatever a test wants.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::task::JoinHandle;

use crate::server::Server;

/// A connection that streams and is never read by anybody but its own task.
pub(crate) struct Replica {
    write: OwnedWriteHalf,
    reader: JoinHandle<()>,
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// One message: its type and contents.
async fn message(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    let kind = stream.read_u8().await.unwrap();
    let length = usize::try_from(stream.read_u32().await.unwrap()).unwrap() - 4;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    assert_ne!(kind, b'E', "{}", String::from_utf8_lossy(&body));
    (kind, body)
}

fn packet(kind: Option<u8>, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    let mut packet: Vec<u8> = kind.into_iter().collect();
    packet.extend(length.to_be_bytes());
    packet.extend(body);
    packet
}

impl Replica {
    /// Connects as a standby of this name and streams timeline 1 from `from` on.
    pub(crate) async fn connect(primary: &Server, name: &str, from: &str) -> Self {
        let address = ("127.0.0.1", primary.port);
        let mut stream = TcpStream::connect(address).await.unwrap();
        let mut startup = 196_608_u32.to_be_bytes().to_vec();
        for word in [
            "user",
            "postgres",
            "replication",
            "true",
            "application_name",
            name,
        ] {
            startup.extend(word.as_bytes());
            startup.push(0);
        }
        startup.push(0);
        stream.write_all(&packet(None, &startup)).await.unwrap();
        while message(&mut stream).await.0 != b'Z' {}
        let start = format!("START_REPLICATION {from} TIMELINE 1\0");
        let start = packet(Some(b'Q'), start.as_bytes());
        stream.write_all(&start).await.unwrap();
        while message(&mut stream).await.0 != b'W' {}
        let (mut read, write) = stream.into_split();
        let reader = tokio::spawn(async move {
            let mut sink = vec![0; 1 << 16];
            while read.read(&mut sink).await.is_ok_and(|n| n > 0) {}
        });
        Self { write, reader }
    }

    /// Says to have flushed up to `lsn`.
    pub(crate) async fn says_flushed(&mut self, lsn: &str) {
        let lsn = lsn.parse::<pgaf_protocol::Lsn>().unwrap().0;
        let mut body = vec![b'r'];
        for number in [lsn, lsn, lsn, 0] {
            body.extend(number.to_be_bytes());
        }
        body.push(0);
        let reply = packet(Some(b'd'), &body);
        self.write.write_all(&reply).await.unwrap();
    }
}
