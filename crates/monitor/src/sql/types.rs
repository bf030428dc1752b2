//! The few Postgres types that the monitor speaks: their OIDs, and how values are read and printed.
//!
//! A value is held the way SQLite holds it: booleans, LSNs and times (microseconds since the Unix
//! epoch) are integers; its type decides how it is printed.
//!
//! It is one long list of types because each new type needs a line in every function here.

use std::fmt::Write as _;

use bytes::{BufMut, BytesMut};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::error::{SqlError, codes};

/// Microseconds between 1970-01-01 and 2000-01-01, where Postgres' binary times begin.
const POSTGRES_EPOCH_MICROS: i64 = 946_684_800_000_000;

/// A Postgres type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum PgType {
    /// `boolean`
    Bool,
    /// `"char"`
    Char,
    /// `smallint`
    Int2,
    /// `integer`
    Int4,
    /// `bigint`
    Int8,
    /// `oid`
    Oid,
    /// `double precision`
    Float8,
    /// `numeric`
    Numeric,
    /// `text`
    Text,
    /// `name`
    Name,
    /// `pgautofailover.replication_state`; on the wire it is text
    State,
    /// `text[]`, held in its text form
    TextArray,
    /// `smallint[]`, held in its text form
    IntArray,
    /// `pg_lsn`
    Lsn,
    /// `timestamp with time zone`
    TimestampTz,
    /// `interval`, microseconds
    Interval,
    /// `json`
    Json,
    /// `jsonb`
    Jsonb,
    /// `void`
    Void,
    /// Not known yet: a parameter or a bare literal.
    Unknown,
}

/// Labels of `replication_state` in declaration order; source: the old program's extension.
const STATES: &[&str] = &[
    "unknown",
    "init",
    "single",
    "wait_primary",
    "primary",
    "draining",
    "demote_timeout",
    "demoted",
    "catchingup",
    "secondary",
    "prepare_promotion",
    "stop_replication",
    "wait_standby",
    "maintenance",
    "join_primary",
    "apply_settings",
    "prepare_maintenance",
    "wait_maintenance",
    "report_lsn",
    "fast_forward",
    "join_secondary",
    "dropped",
];

/// Which types may be compared and combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    /// Booleans.
    Bool,
    /// Numbers.
    Number,
    /// Texts.
    Text,
    /// WAL positions.
    Lsn,
    /// Points in time.
    Time,
    /// Differences of time.
    Interval,
    /// JSON.
    Json,
    /// Nothing.
    Void,
    /// Not known yet.
    Unknown,
}

impl PgType {
    /// The type's OID; source: Postgres, `pg_type.dat`.
    pub(super) fn oid(self) -> u32 {
        match self {
            PgType::Bool => 16,
            PgType::Char => 18,
            PgType::Name => 19,
            PgType::Int8 => 20,
            PgType::Int2 => 21,
            PgType::Int4 => 23,
            PgType::Text | PgType::State | PgType::Unknown => 25,
            PgType::Oid => 26,
            PgType::Json => 114,
            PgType::Float8 => 701,
            PgType::IntArray => 1005,
            PgType::TextArray => 1009,
            PgType::TimestampTz => 1184,
            PgType::Interval => 1186,
            PgType::Numeric => 1700,
            PgType::Void => 2278,
            PgType::Lsn => 3220,
            PgType::Jsonb => 3802,
        }
    }

    /// The type of an OID that a client declares for a parameter; 0 leaves it open.
    pub(super) fn of_parameter_oid(oid: u32) -> Result<PgType, SqlError> {
        Ok(match oid {
            0 | 705 => PgType::Unknown,
            16 => PgType::Bool,
            18 => PgType::Char,
            19 => PgType::Name,
            20 => PgType::Int8,
            21 => PgType::Int2,
            23 => PgType::Int4,
            25 | 1042 | 1043 => PgType::Text,
            26 => PgType::Oid,
            114 => PgType::Json,
            700 | 701 => PgType::Float8,
            1184 => PgType::TimestampTz,
            1700 => PgType::Numeric,
            3220 => PgType::Lsn,
            3802 => PgType::Jsonb,
            other => {
                return Err(SqlError::new(
                    codes::UNDEFINED_OBJECT,
                    format!("parameter type with OID {other} is not supported"),
                ));
            }
        })
    }

    /// The size that a row description announces; -1 for variable length.
    pub(super) fn size(self) -> i16 {
        match self {
            PgType::Bool | PgType::Char => 1,
            PgType::Int2 => 2,
            PgType::Int4 | PgType::Oid | PgType::Void => 4,
            PgType::Int8 | PgType::Float8 | PgType::Lsn | PgType::TimestampTz => 8,
            PgType::Interval => 16,
            PgType::Name => 64,
            PgType::Numeric
            | PgType::Text
            | PgType::State
            | PgType::TextArray
            | PgType::IntArray
            | PgType::Json
            | PgType::Jsonb
            | PgType::Unknown => -1,
        }
    }

    /// The SQL name, for messages and the catalogue.
    pub(super) fn name(self) -> &'static str {
        match self {
            PgType::Bool => "boolean",
            PgType::Char => "\"char\"",
            PgType::Name => "name",
            PgType::Int2 => "smallint",
            PgType::Int4 => "integer",
            PgType::Int8 => "bigint",
            PgType::Oid => "oid",
            PgType::Float8 => "double precision",
            PgType::Numeric => "numeric",
            PgType::Text => "text",
            PgType::State => "pgautofailover.replication_state",
            PgType::TextArray => "text[]",
            PgType::IntArray => "smallint[]",
            PgType::Lsn => "pg_lsn",
            PgType::TimestampTz => "timestamp with time zone",
            PgType::Interval => "interval",
            PgType::Json => "json",
            PgType::Jsonb => "jsonb",
            PgType::Void => "void",
            PgType::Unknown => "unknown",
        }
    }

    /// The family.
    pub(super) fn family(self) -> Family {
        match self {
            PgType::Bool => Family::Bool,
            PgType::Int2
            | PgType::Int4
            | PgType::Int8
            | PgType::Oid
            | PgType::Float8
            | PgType::Numeric => Family::Number,
            PgType::Text
            | PgType::State
            | PgType::Name
            | PgType::Char
            | PgType::TextArray
            | PgType::IntArray => Family::Text,
            PgType::Lsn => Family::Lsn,
            PgType::TimestampTz => Family::Time,
            PgType::Interval => Family::Interval,
            PgType::Json | PgType::Jsonb => Family::Json,
            PgType::Void => Family::Void,
            PgType::Unknown => Family::Unknown,
        }
    }
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// NULL
    Null,
    /// Integers, booleans, LSNs, times.
    Int(i64),
    /// Floating point and numeric.
    Real(f64),
    /// Everything else.
    Text(String),
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Value::Int(i64::from(value))
    }
}

impl From<i32> for Value {
    fn from(value: i32) -> Self {
        Value::Int(i64::from(value))
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Value::Int(value)
    }
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Value::Int(value.cast_signed())
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Value::Text(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Value::Text(value)
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Value::Null, Into::into)
    }
}

/// Prints an LSN as Postgres does.
pub(super) fn print_lsn(lsn: u64) -> String {
    format!("{:X}/{:X}", lsn >> 32, lsn & 0xffff_ffff)
}

/// Reads an LSN.
pub(super) fn parse_lsn(text: &str) -> Option<u64> {
    let (high, low) = text.trim().split_once('/')?;
    let half = |word: &str| {
        let valid =
            (1..=8).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        valid.then(|| u64::from_str_radix(word, 16).ok()).flatten()
    };
    Some(half(high)? << 32 | half(low)?)
}

/// Prints a time in Postgres' ISO style, in UTC.
pub(super) fn print_time(micros: i64) -> String {
    print_time_with(micros, "%Y-%m-%d %H:%M:%S", "+00")
}

/// Prints a time as `row_to_json` does.
pub(super) fn print_time_json(micros: i64) -> String {
    print_time_with(micros, "%Y-%m-%dT%H:%M:%S", "+00:00")
}

fn print_time_with(micros: i64, format: &str, zone: &str) -> String {
    let Ok(time) = Timestamp::from_microsecond(micros) else {
        return if micros < 0 {
            "-infinity".to_owned()
        } else {
            "infinity".to_owned()
        };
    };
    let mut text = time.to_zoned(TimeZone::UTC).strftime(format).to_string();
    let fraction = micros.rem_euclid(1_000_000);
    if fraction != 0 {
        let digits = format!("{fraction:06}");
        text.push('.');
        text.push_str(digits.trim_end_matches('0'));
    }
    text.push_str(zone);
    text
}

/// Reads a time: a date, or date and time, with or without an offset (UTC when absent).
pub(super) fn parse_time(text: &str) -> Option<i64> {
    let text = text.trim();
    let with_offset = [
        text.to_owned(),
        format!("{text}:00"),
        format!("{text}+00:00"),
        format!("{text} 00:00:00+00:00"),
    ];
    with_offset
        .iter()
        .find_map(|candidate| candidate.parse::<Timestamp>().ok())
        .map(Timestamp::as_microsecond)
}

/// Prints an interval of microseconds as `[n days ]HH:MM:SS[.ffffff]`.
fn print_interval(micros: i64) -> String {
    let sign = if micros < 0 { "-" } else { "" };
    let micros = micros.unsigned_abs();
    let seconds = micros / 1_000_000;
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let mut text = String::new();
    if days > 0 {
        let plural = if days == 1 { "" } else { "s" };
        let _ = write!(text, "{sign}{days} day{plural} ");
    }
    let _ = write!(
        text,
        "{sign}{hours:02}:{:02}:{:02}",
        seconds / 60 % 60,
        seconds % 60
    );
    let fraction = micros % 1_000_000;
    if fraction > 0 {
        let digits = format!("{fraction:06}");
        text.push('.');
        text.push_str(digits.trim_end_matches('0'));
    }
    text
}

/// Reads a boolean as Postgres does (unique prefixes of the words are not needed by any client).
pub(super) fn parse_bool(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "t" | "true" | "y" | "yes" | "on" | "1" => Some(true),
        "f" | "false" | "n" | "no" | "off" | "0" => Some(false),
        _ => None,
    }
}

/// Reads the text form of a value.
///
/// # Errors
/// 22P02 or 22003 when the text does not fit the type.
pub(super) fn parse_text(text: &str, ty: PgType) -> Result<Value, SqlError> {
    let invalid = || {
        let message = format!("invalid input syntax for type {}: \"{text}\"", ty.name());
        SqlError::new(codes::INVALID_TEXT, message)
    };
    let out_of_range = || {
        let message = format!("value \"{text}\" is out of range for type {}", ty.name());
        SqlError::new(codes::OUT_OF_RANGE, message)
    };
    let integer = |low: i64, high: i64| -> Result<Value, SqlError> {
        let value: i128 = text.trim().parse().map_err(|_| invalid())?;
        let value = i64::try_from(value).map_err(|_| out_of_range())?;
        if (low..=high).contains(&value) {
            Ok(Value::Int(value))
        } else {
            Err(out_of_range())
        }
    };
    match ty {
        PgType::Bool => parse_bool(text).map(Value::from).ok_or_else(invalid),
        PgType::Int2 => integer(i64::from(i16::MIN), i64::from(i16::MAX)),
        PgType::Int4 => integer(i64::from(i32::MIN), i64::from(i32::MAX)),
        PgType::Oid => integer(0, i64::from(u32::MAX)),
        PgType::Int8 => integer(i64::MIN, i64::MAX),
        PgType::Float8 | PgType::Numeric => {
            text.trim().parse().map(Value::Real).map_err(|_| invalid())
        }
        PgType::Lsn => parse_lsn(text).map(Value::from).ok_or_else(invalid),
        PgType::TimestampTz => parse_time(text).map(Value::Int).ok_or_else(invalid),
        PgType::Interval => Err(SqlError::unsupported(
            "interval parameters are not supported",
        )),
        PgType::Json | PgType::Jsonb => {
            serde_json::from_str::<serde::de::IgnoredAny>(text).map_err(|_| invalid())?;
            Ok(Value::Text(text.to_owned()))
        }
        PgType::State if STATES.contains(&text) => Ok(Value::Text(text.to_owned())),
        PgType::State => Err(SqlError::new(
            codes::INVALID_TEXT,
            format!("invalid input value for enum {}: \"{text}\"", ty.name()),
        )),
        PgType::Text
        | PgType::Name
        | PgType::Char
        | PgType::TextArray
        | PgType::IntArray
        | PgType::Void
        | PgType::Unknown => Ok(Value::Text(text.to_owned())),
    }
}

/// Reads a parameter as it came in Bind.
///
/// # Errors
/// 22021, 22P02, 22P03 or 22003 when the bytes do not fit the type.
pub(super) fn parse_parameter(bytes: &[u8], ty: PgType, binary: bool) -> Result<Value, SqlError> {
    let text = || {
        std::str::from_utf8(bytes)
            .ok()
            .filter(|text| !text.contains('\0'))
            .ok_or_else(|| {
                SqlError::new(
                    codes::NOT_IN_REPERTOIRE,
                    "invalid byte sequence for encoding \"UTF8\" in a parameter",
                )
            })
    };
    if !binary {
        return parse_text(text()?, ty);
    }
    let bad = || {
        SqlError::new(
            codes::INVALID_BINARY,
            "incorrect binary data format in parameter",
        )
    };
    Ok(match ty {
        PgType::Bool => match bytes {
            [byte] => Value::from(*byte != 0),
            _ => return Err(bad()),
        },
        PgType::Int2 => Value::Int(i16::from_be_bytes(bytes.try_into().map_err(|_| bad())?).into()),
        PgType::Int4 => Value::Int(i32::from_be_bytes(bytes.try_into().map_err(|_| bad())?).into()),
        PgType::Oid => Value::Int(u32::from_be_bytes(bytes.try_into().map_err(|_| bad())?).into()),
        PgType::Int8 => Value::Int(i64::from_be_bytes(bytes.try_into().map_err(|_| bad())?)),
        PgType::Lsn => Value::from(u64::from_be_bytes(bytes.try_into().map_err(|_| bad())?)),
        PgType::TimestampTz => {
            let micros = i64::from_be_bytes(bytes.try_into().map_err(|_| bad())?);
            Value::Int(micros.saturating_add(POSTGRES_EPOCH_MICROS))
        }
        PgType::Float8 => match bytes.len() {
            4 => Value::Real(f32::from_be_bytes(bytes.try_into().map_err(|_| bad())?).into()),
            _ => Value::Real(f64::from_be_bytes(bytes.try_into().map_err(|_| bad())?)),
        },
        PgType::Jsonb => {
            let json = text()?.strip_prefix('\u{1}').ok_or_else(bad)?;
            return parse_text(json, ty);
        }
        PgType::Numeric | PgType::Interval => {
            return Err(SqlError::unsupported(format!(
                "binary parameters of type {} are not supported",
                ty.name()
            )));
        }
        PgType::Text
        | PgType::State
        | PgType::Name
        | PgType::Char
        | PgType::TextArray
        | PgType::IntArray
        | PgType::Json
        | PgType::Void
        | PgType::Unknown => return parse_text(text()?, ty),
    })
}

/// Prints a value in text form; `None` is NULL.
pub(super) fn print_text(value: &Value, ty: PgType) -> Option<String> {
    Some(match (value, ty) {
        (Value::Null, _) => return None,
        (Value::Int(value), PgType::Bool) => if *value != 0 { "t" } else { "f" }.to_owned(),
        (Value::Int(value), PgType::Lsn) => print_lsn(value.cast_unsigned()),
        (Value::Int(value), PgType::TimestampTz) => print_time(*value),
        (Value::Int(value), PgType::Interval) => print_interval(*value),
        (Value::Int(value), _) => value.to_string(),
        (Value::Real(value), PgType::Numeric) => format!("{value:.6}"),
        (Value::Real(value), _) => value.to_string(),
        (Value::Text(text), _) => text.clone(),
    })
}

/// Appends a value with its length, as in DataRow.
pub(super) fn put_value(out: &mut BytesMut, value: &Value, ty: PgType, binary: bool) {
    if matches!(value, Value::Null) {
        out.put_i32(-1);
        return;
    }
    let start = out.len();
    out.put_i32(0);
    if !(binary && put_binary(out, value, ty)) {
        match value {
            // Answers to keepers: not worth a copy.
            Value::Text(text) => out.put_slice(text.as_bytes()),
            Value::Null | Value::Int(_) | Value::Real(_) => {
                out.put_slice(print_text(value, ty).unwrap_or_default().as_bytes());
            }
        }
    }
    let length = i32::try_from(out.len() - start - 4).unwrap_or(i32::MAX);
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

/// Whether the type has a binary form that differs from its text.
fn put_binary(out: &mut BytesMut, value: &Value, ty: PgType) -> bool {
    match (value, ty) {
        (Value::Int(value), PgType::Bool) => out.put_u8(u8::from(*value != 0)),
        (Value::Int(value), PgType::Int2) => out.put_i16(i16::try_from(*value).unwrap_or(i16::MAX)),
        (Value::Int(value), PgType::Int4) => out.put_i32(i32::try_from(*value).unwrap_or(i32::MAX)),
        (Value::Int(value), PgType::Oid) => out.put_u32(u32::try_from(*value).unwrap_or(u32::MAX)),
        (Value::Int(value), PgType::Int8 | PgType::Lsn) => out.put_i64(*value),
        (Value::Int(value), PgType::TimestampTz) => {
            out.put_i64(value.saturating_sub(POSTGRES_EPOCH_MICROS));
        }
        (Value::Int(value), PgType::Interval) => {
            out.put_i64(*value);
            out.put_i64(0);
        }
        (Value::Real(value), PgType::Float8) => out.put_f64(*value),
        (Value::Int(_) | Value::Real(_), PgType::Numeric) => {
            put_numeric(out, &print_text(value, ty).unwrap_or_default());
        }
        (Value::Text(text), PgType::Jsonb) => {
            out.put_u8(1);
            out.put_slice(text.as_bytes());
        }
        _ => return false,
    }
    true
}

/// The binary form of a plain decimal number: base 10 000 digits.
fn put_numeric(out: &mut BytesMut, decimal: &str) {
    let (negative, digits) = match decimal.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, decimal),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let scale = i16::try_from(fraction.len()).unwrap_or(0);
    let whole = format!("{whole:0>width$}", width = whole.len().div_ceil(4) * 4);
    let fraction = format!(
        "{fraction:0<width$}",
        width = fraction.len().div_ceil(4) * 4
    );
    let weight = i16::try_from(whole.len() / 4).unwrap_or(1) - 1;
    let all = format!("{whole}{fraction}");
    let groups: Vec<i16> = (0..all.len())
        .step_by(4)
        .map(|at| all[at..at + 4].parse().unwrap_or(0))
        .collect();
    out.put_i16(i16::try_from(groups.len()).unwrap_or(0));
    out.put_i16(weight);
    out.put_u16(if negative { 0x4000 } else { 0 });
    out.put_i16(scale);
    for group in groups {
        out.put_i16(group);
    }
}

#[cfg(test)]
#[path = "types_tests.rs"]
mod tests;
