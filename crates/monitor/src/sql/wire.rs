//! The Postgres protocol, version 3, on bytes: messages read from and appended to buffers.
//!
//! Every length and count comes from a stranger: nothing is allocated before the bytes are there,
//! and a message that does not add up is an error, never a panic.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::error::{Notice, NoticeLevel, SqlError, codes};
use super::planner::Column;

/// A message from the client, after start-up.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message {
    Query(String),
    Parse {
        name: String,
        query: String,
        types: Vec<u32>,
    },
    Bind(Bind),
    Describe(Target),
    Execute {
        portal: String,
        max_rows: u32,
    },
    Close(Target),
    Sync,
    Flush,
    Terminate,
    /// Password, SASLInitialResponse or SASLResponse: their meaning depends on the state.
    Password(Bytes),
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Bind {
    pub(super) portal: String,
    pub(super) statement: String,
    pub(super) parameter_formats: Vec<i16>,
    pub(super) parameters: Vec<Option<Bytes>>,
    pub(super) result_formats: Vec<i16>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Target {
    Statement(String),
    Portal(String),
}

fn violation(message: impl Into<String>) -> SqlError {
    SqlError::fatal(codes::PROTOCOL_VIOLATION, message)
}

/// Takes one complete message (type and body) out of the buffer.
///
/// # Errors
/// Fatal 08P01 when the length is impossible or above `limit`.
pub(super) fn take_message(
    buffer: &mut BytesMut,
    limit: usize,
) -> Result<Option<(u8, Bytes)>, SqlError> {
    let [kind, a, b, c, d, ..] = buffer[..] else {
        return Ok(None);
    };
    let length = usize::try_from(i32::from_be_bytes([a, b, c, d])).unwrap_or(0);
    if length < 4 {
        return Err(violation("invalid message length"));
    }
    if length > limit {
        return Err(violation(format!(
            "message of {length} bytes is longer than the limit of {limit} bytes"
        )));
    }
    if buffer.len() <= length {
        return Ok(None);
    }
    buffer.advance(5);
    Ok(Some((kind, buffer.split_to(length - 4).freeze())))
}

struct Body(Bytes);

impl Body {
    fn i16(&mut self) -> Result<i16, SqlError> {
        self.0.try_get_i16().map_err(|_| Body::short())
    }

    fn i32(&mut self) -> Result<i32, SqlError> {
        self.0.try_get_i32().map_err(|_| Body::short())
    }

    fn short() -> SqlError {
        violation("insufficient data left in message")
    }

    fn string(&mut self) -> Result<String, SqlError> {
        let end = self
            .0
            .iter()
            .position(|byte| *byte == 0)
            .ok_or_else(|| violation("invalid string in message"))?;
        let text = self.0.split_to(end);
        self.0.advance(1);
        String::from_utf8(text.to_vec()).map_err(|_| {
            SqlError::new(
                codes::NOT_IN_REPERTOIRE,
                "invalid byte sequence for encoding \"UTF8\"",
            )
        })
    }

    /// A count of elements of at least `size` bytes each.
    fn count(&mut self, size: usize) -> Result<usize, SqlError> {
        let count = usize::from(self.i16()?.cast_unsigned());
        if count * size > self.0.len() {
            Err(Body::short())
        } else {
            Ok(count)
        }
    }

    fn formats(&mut self) -> Result<Vec<i16>, SqlError> {
        let count = self.count(2)?;
        (0..count).map(|_| self.i16()).collect()
    }

    fn bytes(&mut self) -> Result<Option<Bytes>, SqlError> {
        match usize::try_from(self.i32()?) {
            Err(_) => Ok(None),
            Ok(length) if length <= self.0.len() => Ok(Some(self.0.split_to(length))),
            Ok(_) => Err(Body::short()),
        }
    }

    fn target(&mut self) -> Result<Target, SqlError> {
        let kind = self.0.try_get_u8().map_err(|_| Body::short())?;
        let name = self.string()?;
        match kind {
            b'S' => Ok(Target::Statement(name)),
            b'P' => Ok(Target::Portal(name)),
            _ => Err(violation("invalid target of a Describe or Close message")),
        }
    }

    fn end<T>(self, value: T) -> Result<T, SqlError> {
        if self.0.is_empty() {
            Ok(value)
        } else {
            Err(violation("invalid message format"))
        }
    }
}

/// Understands a message.
///
/// # Errors
/// 08P01 for what is malformed or does not exist, 22021 for text that is not UTF-8.
pub(super) fn parse_message(kind: u8, body: Bytes) -> Result<Message, SqlError> {
    let mut body = Body(body);
    let message = match kind {
        b'Q' => Message::Query(body.string()?),
        b'P' => {
            let (name, query) = (body.string()?, body.string()?);
            let count = body.count(4)?;
            let types = (0..count)
                .map(|_| body.i32().map(i32::cast_unsigned))
                .collect::<Result<_, _>>()?;
            Message::Parse { name, query, types }
        }
        b'B' => {
            let (portal, statement) = (body.string()?, body.string()?);
            let parameter_formats = body.formats()?;
            let count = body.count(4)?;
            let parameters = (0..count).map(|_| body.bytes()).collect::<Result<_, _>>()?;
            let result_formats = body.formats()?;
            Message::Bind(Bind {
                portal,
                statement,
                parameter_formats,
                parameters,
                result_formats,
            })
        }
        b'D' => Message::Describe(body.target()?),
        b'C' => Message::Close(body.target()?),
        b'E' => {
            let portal = body.string()?;
            Message::Execute {
                portal,
                max_rows: u32::try_from(body.i32()?).unwrap_or(0),
            }
        }
        b'S' => Message::Sync,
        b'H' => Message::Flush,
        b'X' => return Ok(Message::Terminate),
        b'p' => return Ok(Message::Password(body.0)),
        b'F' => {
            return Err(SqlError::unsupported(
                "the function call protocol is not supported",
            ));
        }
        b'd' | b'c' | b'f' => return Err(violation("COPY is not supported")),
        other => return Err(violation(format!("invalid frontend message type {other}"))),
    };
    body.end(message)
}

/// Appends a message of the given type; `body` writes its contents.
pub(super) fn put(out: &mut BytesMut, kind: u8, body: impl FnOnce(&mut BytesMut)) {
    out.put_u8(kind);
    let start = out.len();
    out.put_i32(0);
    body(out);
    let length = i32::try_from(out.len() - start).unwrap_or(i32::MAX);
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

fn put_string(out: &mut BytesMut, text: &str) {
    // A zero byte would end the string early and break the framing.
    out.extend(text.bytes().filter(|byte| *byte != 0));
    out.put_u8(0);
}

pub(super) fn put_empty(out: &mut BytesMut, kind: u8) {
    put(out, kind, |_| ());
}

/// `state` is `I`, `T` or `E`.
pub(super) fn put_ready(out: &mut BytesMut, state: u8) {
    put(out, b'Z', |out| out.put_u8(state));
}

pub(super) fn put_complete(out: &mut BytesMut, tag: &str) {
    put(out, b'C', |out| put_string(out, tag));
}

pub(super) fn put_parameter_status(out: &mut BytesMut, name: &str, value: &str) {
    put(out, b'S', |out| {
        put_string(out, name);
        put_string(out, value);
    });
}

pub(super) fn put_key_data(out: &mut BytesMut, pid: i32, key: i32) {
    put(out, b'K', |out| {
        out.put_i32(pid);
        out.put_i32(key);
    });
}

/// Authentication request `code` with its data.
pub(super) fn put_authentication(out: &mut BytesMut, code: i32, data: &[u8]) {
    put(out, b'R', |out| {
        out.put_i32(code);
        out.put_slice(data);
    });
}

/// Tells the client that only protocol 3.0 is spoken, and which options were not understood.
pub(super) fn put_negotiate(out: &mut BytesMut, options: &[String]) {
    put(out, b'v', |out| {
        out.put_i32(3 << 16);
        out.put_i32(i32::try_from(options.len()).unwrap_or(0));
        for option in options {
            put_string(out, option);
        }
    });
}

pub(super) fn put_notification(out: &mut BytesMut, pid: i32, channel: &str, payload: &str) {
    put(out, b'A', |out| {
        out.put_i32(pid);
        put_string(out, channel);
        put_string(out, payload);
    });
}

struct Fields<'a> {
    severity: &'static str,
    code: &'a str,
    message: &'a str,
    detail: Option<&'a str>,
    hint: Option<&'a str>,
    position: Option<u32>,
}

fn put_fields(out: &mut BytesMut, kind: u8, fields: &Fields<'_>) {
    put(out, kind, |out| {
        let position = fields.position.map(|position| position.to_string());
        let all = [
            (b'S', Some(fields.severity)),
            (b'V', Some(fields.severity)),
            (b'C', Some(fields.code)),
            (b'M', Some(fields.message)),
            (b'D', fields.detail),
            (b'H', fields.hint),
            (b'P', position.as_deref()),
        ];
        for (field, text) in all {
            if let Some(text) = text {
                out.put_u8(field);
                put_string(out, text);
            }
        }
        out.put_u8(0);
    });
}

pub(super) fn put_error(out: &mut BytesMut, error: &SqlError) {
    let fields = Fields {
        severity: if error.fatal { "FATAL" } else { "ERROR" },
        code: &error.code,
        message: &error.message,
        detail: error.detail.as_deref(),
        hint: error.hint.as_deref(),
        position: error.position,
    };
    put_fields(out, b'E', &fields);
}

pub(super) fn put_notice(out: &mut BytesMut, notice: &Notice) {
    let severity = match notice.level {
        NoticeLevel::Notice => "NOTICE",
        NoticeLevel::Warning => "WARNING",
    };
    let fields = Fields {
        severity,
        code: &notice.code,
        message: &notice.message,
        detail: notice.detail.as_deref(),
        hint: notice.hint.as_deref(),
        position: None,
    };
    put_fields(out, b'N', &fields);
}

pub(super) fn put_parameter_description(out: &mut BytesMut, oids: &[u32]) {
    put(out, b't', |out| {
        out.put_u16(u16::try_from(oids.len()).unwrap_or(u16::MAX));
        oids.iter().for_each(|oid| out.put_u32(*oid));
    });
}

/// The format of result column `index`: 1 is binary.
pub(super) fn format_of(formats: &[i16], index: usize) -> i16 {
    match formats {
        [] => 0,
        [one] => *one,
        many => many.get(index).copied().unwrap_or(0),
    }
}

pub(super) fn put_row_description(out: &mut BytesMut, columns: &[Column], formats: &[i16]) {
    put(out, b'T', |out| {
        out.put_u16(u16::try_from(columns.len()).unwrap_or(u16::MAX));
        for (index, column) in columns.iter().enumerate() {
            put_string(out, &column.name);
            out.put_i32(0); // table
            out.put_i16(0); // attribute
            out.put_u32(column.ty.oid());
            out.put_i16(column.ty.size());
            out.put_i32(-1); // modifier
            out.put_i16(format_of(formats, index));
        }
    });
}
