//! One client's byte stream with its two buffers. Both are empty, and hold no memory, while the
//! client is idle.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::time::{Duration, timeout};

use super::error::{SqlError, codes};
use super::wire;

/// A stream: TCP, Unix or TLS.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Bytes taken from the socket at once. It lives on the stack while polling only.
const READ_CHUNK: usize = 4096;
/// The answer is sent when it has grown to this.
pub(super) const FLUSH_AT: usize = 32 * 1024;

/// Why nothing more can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// FIN.
    Eof,
    /// RST, or another failure of the connection.
    Reset,
}

pub(super) struct Connection {
    stream: Box<dyn Stream>,
    input: BytesMut,
    /// What is to be sent; see [`wire`].
    pub(super) output: BytesMut,
    send_time: Duration,
}

impl Connection {
    pub(super) fn new(stream: Box<dyn Stream>, send_time: Duration) -> Self {
        Connection {
            stream,
            input: BytesMut::new(),
            output: BytesMut::new(),
            send_time,
        }
    }

    /// Replaces the stream by one that wraps it.
    pub(super) fn into_stream(self) -> Box<dyn Stream> {
        self.stream
    }

    pub(super) fn input(&mut self) -> &mut BytesMut {
        &mut self.input
    }

    /// Waits for more bytes. Cancel safe.
    pub(super) async fn read_more(&mut self) -> Result<(), End> {
        let (stream, input) = (&mut self.stream, &mut self.input);
        poll_fn(|context| poll_read(Pin::new(stream), input, context)).await
    }

    /// Returns when the client is gone; reads ahead up to `limit` bytes. Cancel safe.
    pub(super) async fn wait_for_end(&mut self, limit: usize) -> End {
        while self.input.len() < limit {
            if let Err(end) = self.read_more().await {
                return end;
            }
        }
        // The client talks on without reading: writing will tell.
        std::future::pending().await
    }

    /// Takes a message that is there completely.
    pub(super) fn take_message(&mut self, limit: usize) -> Result<Option<(u8, Bytes)>, SqlError> {
        wire::take_message(&mut self.input, limit)
    }

    /// Whether the beginning of a message is there.
    pub(super) fn has_input(&self) -> bool {
        !self.input.is_empty()
    }

    /// Sends all output.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        if self.output.is_empty() {
            return Ok(());
        }
        let output = std::mem::take(&mut self.output);
        let send = async {
            self.stream.write_all(&output).await?;
            self.stream.flush().await
        };
        timeout(self.send_time, send)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Sends a last error and closes; nothing of it may fail loudly.
    pub(super) async fn close_with(&mut self, error: &SqlError) {
        wire::put_error(&mut self.output, error);
        let _ = self.flush().await;
        let _ = timeout(self.send_time, self.stream.shutdown()).await;
    }

    /// Gives unused memory back.
    pub(super) fn rest(&mut self) {
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
    }
}

fn poll_read(
    stream: Pin<&mut Box<dyn Stream>>,
    input: &mut BytesMut,
    context: &mut Context<'_>,
) -> Poll<Result<(), End>> {
    let mut chunk = [0u8; READ_CHUNK];
    let mut buffer = ReadBuf::new(&mut chunk);
    match stream.poll_read(context, &mut buffer) {
        Poll::Pending => Poll::Pending,
        // TLS says so when the connection ends without its own goodbye, as that of a killed process.
        Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Poll::Ready(Err(End::Eof))
        }
        Poll::Ready(Err(_)) => Poll::Ready(Err(End::Reset)),
        Poll::Ready(Ok(())) if buffer.filled().is_empty() => Poll::Ready(Err(End::Eof)),
        Poll::Ready(Ok(())) => {
            input.extend_from_slice(buffer.filled());
            Poll::Ready(Ok(()))
        }
    }
}

/// The error for a client that breaks off or never ends a message.
pub(super) fn idle_in_message() -> SqlError {
    SqlError::fatal(
        codes::IDLE_TIMEOUT,
        "terminating connection due to an incomplete message",
    )
}
