//! The way that a keeper's beat takes through a session: Bind, Execute and Sync of a statement that is
//! nothing but that call, all three at once, are read in place and answered in one write.
//!
//! It does what the general way does, for this one case, without a portal, a plan and their copies.
//! Whatever is not exactly that is left to the general way.

use bytes::{Buf as _, BufMut as _, BytesMut};
use tokio::time::timeout;

use super::backend::Closed;
use super::connection::End;
use super::error::{SqlError, codes};
use super::functions::{Body, CallFn};
use super::parse::{Parsed, Statement};
use super::planner::{Const, QueryPlan};
use super::session::{Ending, Session, TransactionState};
use super::types::PgType;
use super::wire;

/// Execute of the unnamed portal without a limit, and Sync.
const EXECUTE_AND_SYNC: &[u8] = b"E\0\0\0\x09\0\0\0\0\0S\0\0\0\x04";

/// One parameter, the rest of a Bind message, in place.
#[derive(Debug, PartialEq, Eq)]
struct Request<'a> {
    statement: &'a str,
    text: &'a str,
    /// Bytes of all three messages.
    length: usize,
}

/// Whether a statement is nothing but the call of a beat, with its text as the only parameter.
pub(super) fn is_beat(parsed: &Parsed) -> bool {
    let Statement::Query(plan) = &parsed.statement else {
        return false;
    };
    let QueryPlan::Call { call, rest } = plan.as_ref() else {
        return false;
    };
    call.function.body == Body::Call(CallFn::KeeperBeat)
        && call.args[..] == [Const::Param(0, PgType::Text)]
        && parsed.params.types[..] == [PgType::Text]
        && rest.is_bare_reply()
}

/// Reads the three messages, if they are all there.
fn request(input: &[u8], limit: usize) -> Option<Request<'_>> {
    let (kind, rest) = input.split_first()?;
    let length = usize::try_from(u32::from_be_bytes(*rest.first_chunk()?)).ok()?;
    if *kind != b'B' || !(4..=limit).contains(&length) {
        return None;
    }
    let (bind, after) = rest.split_at_checked(length)?;
    if !after.starts_with(EXECUTE_AND_SYNC) {
        return None;
    }
    // The unnamed portal.
    let body = bind[4..].strip_prefix(b"\0")?;
    let end = body.iter().position(|byte| *byte == 0)?;
    let statement = std::str::from_utf8(&body[..end]).ok()?;
    // Text is the same in both formats, in either direction.
    let body = skip_formats(&body[end + 1..])?.strip_prefix(b"\0\x01")?;
    let (size, body) = body.split_first_chunk()?;
    // NULL has a negative length.
    let size = usize::try_from(i32::from_be_bytes(*size)).ok()?;
    let (text, body) = body.split_at_checked(size)?;
    if !skip_formats(body)?.is_empty() {
        return None;
    }
    Some(Request {
        statement,
        text: std::str::from_utf8(text).ok()?,
        length: 1 + length + EXECUTE_AND_SYNC.len(),
    })
}

/// None or one format code.
fn skip_formats(body: &[u8]) -> Option<&[u8]> {
    match body {
        [0, 0, rest @ ..] | [0, 1, 0, 0 | 1, rest @ ..] => Some(rest),
        _ => None,
    }
}

/// A row of one text, and the end of its command.
fn put_row(out: &mut BytesMut, text: &str) {
    wire::put(out, b'D', |out| {
        out.put_u16(1);
        out.put_u32(u32::try_from(text.len()).unwrap_or(u32::MAX));
        out.put_slice(text.as_bytes());
    });
    wire::put_complete(out, "SELECT 1");
}

impl Session {
    /// Takes a beat and answers it; `false` when something else, or not all of it, is there.
    pub(super) async fn beat(&mut self) -> Result<bool, Ending> {
        let is_idle = self.transaction == TransactionState::Idle && self.is_between_batches();
        let limit = self.shared.limits.message_after_auth;
        let Some(asked) = is_idle
            .then(|| request(self.connection.peek(), limit))
            .flatten()
        else {
            return Ok(false);
        };
        let prepared = self.prepared.get(asked.statement);
        if !prepared.is_some_and(|prepared| prepared.is_beat) {
            return Ok(false);
        }
        let Some(mut answer) = self.shared.backend.beat(&self.info, asked.text) else {
            return Ok(false);
        };
        let length = asked.length;
        self.connection.input().advance(length);
        let time = self.shared.limits.statement_time;
        let answered = tokio::select! {
            biased;
            answered = timeout(time, &mut answer) => answered,
            end = self.connection.wait_for_end(limit) => {
                let how = match end {
                    End::Eof => Closed::Eof,
                    End::Reset => Closed::Reset,
                };
                self.tell_closed(how);
                return Err(Ending::Closed(how));
            }
        };
        let result = answered.unwrap_or_else(|_| {
            let message = "canceling statement due to statement timeout";
            Ok(Err(SqlError::new(codes::QUERY_CANCELED, message)))
        });
        let result = result.unwrap_or_else(|_| {
            let message = "the monitor is shutting down";
            Err(SqlError::fatal(codes::ADMIN_SHUTDOWN, message))
        });
        let out = &mut self.connection.output;
        out.reserve(128);
        wire::put_empty(out, b'2');
        match result {
            Ok(text) => put_row(out, &text),
            Err(error) if error.fatal => return Err(error.into()),
            Err(error) => wire::put_error(out, &error),
        }
        self.ready().await?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What our keepers' driver sends.
    fn sent(statement: &str, text: &str) -> Vec<u8> {
        let mut body = BytesMut::new();
        wire::put(&mut body, b'B', |out| {
            out.put_slice(b"\0");
            out.put_slice(statement.as_bytes());
            out.put_slice(b"\0\0\x01\0\x01\0\x01");
            out.put_u32(u32::try_from(text.len()).unwrap());
            out.put_slice(text.as_bytes());
            out.put_slice(b"\0\x01\0\x01");
        });
        body.put_slice(EXECUTE_AND_SYNC);
        body.to_vec()
    }

    #[test]
    fn a_whole_beat_is_read_in_place_and_what_follows_is_left() {
        let mut bytes = sent("s1", "[1]");
        let length = bytes.len();
        bytes.extend(b"X\0\0\0\x04");
        let read = request(&bytes, 1000).unwrap();
        assert_eq!(
            (read.statement, read.text, read.length),
            ("s1", "[1]", length)
        );
    }

    #[test]
    fn anything_else_is_left_to_the_general_way() {
        let whole = sent("s1", "[1]");
        for end in 0..whole.len() {
            assert_eq!(request(&whole[..end], 1000), None, "{end} bytes");
        }
        assert_eq!(request(&whole, 10), None, "longer than the limit");
        // Every byte but those of the text and of the name, and the formats 0 and 1.
        for at in 0..whole.len() {
            let mut other = whole.clone();
            other[at] = 0xff;
            assert_eq!(request(&other, 1000), None, "byte {at}");
        }
    }
}
